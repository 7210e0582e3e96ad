"""Guards of submission, "one request is one job": the same table as in guards.py."""

# ruff: noqa: E501 - tables

from __future__ import annotations

from .guards import Guard

_S = "unit/client/test_submission.py::"
_J = "unit/client/test_job_calls.py::"
_E = "unit/client/test_submission_ends.py::"
_L = "unit/client/test_submission_lost.py::"
_N = "unit/client/test_named_requests.py::"

SUBMISSION = [
    Guard("a job request is sent once", "client/endpoints/jobs.py", "new_job_id, body=body.encode(), retry=ONCE,",
          "new_job_id, body=body.encode(), retry=PATIENT,", _J + "test_a_job_request_is_sent_once_whatever_is_said_to_it"),
    Guard("another job's answer", "client/endpoints/jobs.py", "if document.id != job_id:", "if False:",
          _J + "test_what_a_server_says_of_another_job_is_not_believed"),
    Guard("nothing is sent without a card", "client/submission.py",
          "self.or_abandon(partial(self._journal.intend, card, durably=not self._client.knows_keys))\n            try:", "try:",
          _S + "test_nothing_is_sent_if_the_intent_cannot_be_written"),
    Guard("a known job is not sent again", "client/submission.py", "if card.job_id:", "if False:",
          _S + "test_nothing_is_sent_for_a_card_that_has_its_job"),
    Guard("a lost answer is looked for", "client/submission.py",
          "found = self._or_give_up(card, partial(self._settling.settle, card, 0.0))", "found = None",
          _L + "test_a_job_whose_answer_was_lost_is_found_by_its_tag"),
    Guard("silence must span the settling time", "client/settling.py", "if over and missing <= 0:", "if missing <= 0:",
          _L + "test_a_list_that_lags_is_waited_for"),
    Guard("a classic server's silence", "client/settling.py", 'if self._client.credentials.channel == "classic":\n            # Not',
          "if False:\n            # Not", _L + "test_a_classic_server_may_not_keep_tags_so_its_silence_proves_nothing"),
    Guard("three requests at most", "client/submission.py", "for _ in range(MAX_POSTS):", "for _ in range(9):",
          _L + "test_three_requests_at_most_are_sent"),
    Guard("a look-up that fails is no answer", "client/settling.py",
          'if over:\n                    raise self.given_up(card, "the server could', 'if over:\n                    return None\n                    raise self.given_up(card, "the server could', _L + "test_a_look_up_that_is_refused_does_not_say_that_there_is_no_job"),
    Guard("filters are not believed", "client/duplicates.py", "yield from (job for job in jobs if tag in job.tags)", "yield from jobs", _L + "test_a_server_that_ignores_the_filter_is_not_believed"),
    Guard("another request under a key", "client/settling.py",
          "return self._request.idempotency_key is None or fingerprint_tag(card) in job.tags", "return True",
          _L + "test_an_explicit_key_of_another_request_is_a_conflict"),
    Guard("another request's job, and none of ours", "client/settling.py", "            raise another\n", "            pass\n",
          _E + "test_a_request_that_is_absent_is_not_sent_again_beside_another_requests_job"),
    Guard("another request that was lost", "client/submission.py", " or known.fingerprint != card.fingerprint:", ":",
          _N + "test_another_request_under_the_name_of_one_that_was_lost_is_not_taken_for_sent"),
    Guard("another request's job is no duplicate", "client/duplicates.py",
          "return not marks or (bool(card.fingerprint) and fingerprint_tag(card) in marks)", "return True",
          _E + "test_a_look_for_duplicates_leaves_the_jobs_of_another_request_alone"),
    Guard("claims go with a refusal", "client/submission.py", "            self._journal.give_up(card)\n\n    def _or_give_up",
          "            pass\n\n    def _or_give_up",
          _E + "test_a_refusal_after_a_lost_answer_leaves_the_request_to_who_asks_next[InvalidInputError]"),
    Guard("a claim that was taken over is not written over", "client/submission.py",
          "            except SubmissionUnknownError:\n                raise  # somebody", "            except ZeroDivisionError:\n                raise  # somebody",
          _E + "test_who_was_taken_over_writes_nothing_more"),
    Guard("an earlier intent is looked for first", "client/submission.py", "if explicit or not first_use:", "if explicit:",
          _L + "test_the_job_of_an_intent_is_looked_for_before_anything_is_sent"),
    Guard("who is gone sends nothing", "client/pace.py",
          'pause_for(self._clock, pause, "The request was not sent while it waited for its turn")', "self._clock.sleep(pause)",
          "unit/client/test_pace.py::test_who_waits_for_a_turn_and_is_gone_sends_nothing_and_takes_no_turn"),
    Guard("who is gone looks no longer", "client/settling.py",
          "pause_for(self._client.clock, seconds, _STOPPED.format(card.key, self._advice))", "self._client.clock.sleep(seconds)",
          _E + "test_whoever_is_gone_while_an_answer_is_looked_for_leaves_the_request_to_who_asks_next"),
    Guard("a known job is gone when that is said twice", "client/settling.py",
          "    except RuntimeJobNotFound:\n        client.clock", "    except ZeroDivisionError:\n        client.clock",
          _S + "test_a_404_for_the_job_on_a_card_is_believed_when_it_comes_twice[1]"),
    Guard("a result is gone when that is said twice", "client/job_result.py", "if times_gone == CONFIRM_GONE:", "if True:",
          "integration/test_jobs_in_reach.py::test_a_404_for_a_finished_jobs_result_is_believed_when_it_comes_twice[1]"),
    Guard("a private read is not cut off", "client/endpoints/jobs.py", "max(self.request_timeout, deadline.remaining())",
          "deadline.remaining()", "integration/test_slow_lines.py::test_a_result_may_take_its_time"),
]  # fmt: skip
