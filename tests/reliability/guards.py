"""Guards of the decoder and the transport: where each stands, how it is taken away, which test then fails.

Read by test_guards.py, which does that; submission's are in submission_guards.py. Two stand twice and are not here: a
redirect is neither followed nor looked at, and urllib3 sees short bodies as well. `without` takes the place of `guard`
in a copy of the package.
"""

# ruff: noqa: E501 - tables

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard. `file` is below the package, `test` below tests/."""

    what: str
    file: str
    guard: str
    without: str
    test: str


_T = "unit/client/test_transport.py::"
_C = "unit/wire/test_codec.py::"
_Q = "unit/wire/test_qiskit_values.py::"
_W = "unit/client/test_websocket_limits.py::"
_J = "unit/wire/test_json_text.py::"
_P = "unit/wire/test_client_side_text.py::"
_A = "unit/client/test_auth.py::"

GUARDS = [
    # Transport
    Guard("total deadline, in the head", "client/transport/timed_http.py",
          "self.fp = io.BufferedReader(_TimedStream(sock, self.fp.detach(), current.get().deadline))", "pass",
          _T + "test_a_deadline_holds_whatever_the_server_does"),
    Guard("uploads have the request's time", "client/transport/timed_http.py",
          "if self.sock is None or not isinstance(data, bytes):", "if True:",
          "integration/test_slow_lines.py::test_an_upload_may_take_longer_than_a_connection"),
    Guard("only what has begun may be lost", "client/transport/timed_http.py", "self.connect()", "pass",
          _T + "test_a_refused_connection_sent_nothing"),
    Guard("byte cap", "client/transport/exchange.py", "if len(body) > self._max_answer_bytes:", "if False:",
          _T + "test_an_answer_larger_than_the_limit_is_refused"),
    Guard("refusals are read in part", "client/transport/exchange.py", "if refused and len(body) > MAX_REFUSAL_BYTES:", "if False:",
          _T + "test_of_a_refusal_that_never_ends_a_part_is_read"),
    Guard("redirects are not looked at", "client/transport/exchange.py", "session = _Session()", "session = requests.Session()",
          _T + "test_where_a_redirect_leads_is_not_looked_at"),
    Guard("bodies that end with the connection", "client/transport/exchange.py",
          'length is not None or "transfer-encoding" in headers or not body', "True",
          _T + "test_a_body_that_ends_with_the_connection_is_marked"),
    Guard("no compression", "client/transport/exchange.py",
          'headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")', "False",
          _T + "test_a_body_whose_end_or_form_is_not_certain_is_refused"),
    Guard("no other transfer encoding", "client/transport/exchange.py",
          'headers.get("transfer-encoding", "chunked").strip().lower() != "chunked"', "False",
          _T + "test_a_body_whose_end_or_form_is_not_certain_is_refused"),
    Guard("lengths are numbers", "client/transport/exchange.py", "if not _LENGTH.fullmatch(length.strip()):", "if False:",
          _T + "test_a_body_whose_end_or_form_is_not_certain_is_refused"),
    Guard("contradicting lengths were sent for", "client/transport/exchange.py",
          "if isinstance(_innermost(error), urllib3.exceptions.InvalidHeader):", "if False:",
          _T + "test_a_body_whose_end_or_form_is_not_certain_is_refused"),
    Guard("1xx is no answer", "client/transport/exchange.py", "if status < 200:", "if False:",
          _T + "test_an_answer_that_is_none_is_refused"),
    Guard("no environment", "client/transport/exchange.py", "session.trust_env = False", "session.trust_env = True",
          _T + "test_the_environment_decides_nothing"),
    Guard("no cookies", "client/transport/exchange.py",
          "session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))", "pass",
          _T + "test_a_cookie_is_not_sent_back"),
    Guard("no repetition below us", "client/transport/timed_http.py", "urllib3.Retry(0,", "urllib3.Retry(2, allowed_methods=None,",
          _T + "test_an_answer_that_is_not_whole_is_lost"),
    Guard("characters of headers", "client/transport/exchange.py", 'value.encode("latin-1")', "pass",
          _T + "test_a_header_that_cannot_be_sent_is_a_configuration_error"),
    Guard("long texts are cut before they are cleaned", "wire/redaction.py", "if len(text) > limit + _MARGIN:",
          "if False:", "unit/client/test_clean.py::test_a_text_made_for_it_does_not_keep_us_busy"),
    Guard("no secret is cut in half", "wire/redaction.py", '_LAST_WORD.sub("…", text[: limit + _MARGIN])',
          "text[: limit + _MARGIN]", "unit/client/test_clean.py::test_a_secret_is_not_cut_in_half_before_it_is_taken_out"),
    Guard("no proxy for this machine", "client/credentials.py", "host in _LOOPBACK or any(", "any(",
          _T + "test_this_machine_is_reached_without_a_proxy"),
    Guard("http:// for this machine only", "client/credentials.py",
          'if parts.scheme == "http" and parts.hostname not in _LOOPBACK:', "if False:",
          "unit/client/test_credentials.py::test_plain_http_to_another_machine_is_refused"),
    Guard("an empty verify is not False", "client/credentials.py", "and self.verify.strip())", ")",
          "unit/client/test_credentials.py::test_what_cannot_work_is_refused_with_the_fields_name_and_nothing_secret"),
    Guard("the login's runtime too", "client/auth.py", 'check_url("runtime", runtime)', "pass",
          _A + "test_a_token_is_not_sent_to_a_runtime_that_no_url_may_name"),
    Guard("a CRN's region", "client/credentials.py", 're.fullmatch(r"[a-z0-9-]*", region)', "True",
          _A + "test_a_region_never_makes_another_host"),
    Guard("a CRN that was looked up", "client/instances.py", "if not all(map(is_crn, found)):", "if False:",
          _A + "test_a_region_never_makes_another_host"),
    Guard("ids in addresses", "client/endpoints/line.py", "if not is_id(job_id):", "if False:",
          _A + "test_what_cannot_be_a_jobs_id_is_never_sent"),
    Guard("ids of answers", "wire/models.py", "if not is_id(job_id):", "if False:",
          "unit/wire/test_models.py::test_a_document_whose_id_cannot_be_one_is_refused"),
    Guard("id of a new job", "client/endpoints/line.py", "if not is_id(value):", "if False:",
          _A + "test_a_new_jobs_id_that_cannot_be_one_is_refused"),
    Guard("a part is not the whole", "client/endpoints/line.py", 'if answer.status == 206 and "Range" not in sent:', "if False:",
          _A + "test_a_part_of_an_answer_is_not_taken_for_all_of_it"),
    Guard("tokens that a header can take", "client/signing.py", "or not _TOKEN.fullmatch(value)", "",
          _A + "test_a_token_that_no_header_can_take_is_refused"),
    # Streams
    Guard("handshakes have a deadline", "client/transport/websocket_limits.py", "if left <= 0:", "left = 5.0\n        if False:",
          _W + "test_a_handshake_that_drips_ends_at_the_deadline"),
    Guard("handshakes have a size", "client/transport/websocket_limits.py", "if self._left < 0:", "if False:",
          _W + "test_a_handshake_without_an_end_is_given_up"),
    Guard("messages have a size", "client/transport/websocket_limits.py", "if size > MAX_FRAME_BYTES:", "if False:",
          _W + "test_a_message_in_frames_without_end_is_given_up"),
    Guard("streams are not redirected", "client/transport/sockets.py", "redirect_limit=0", "redirect_limit=3",
          _W + "test_a_redirect_is_not_followed"),
    Guard("cookies of streams", "client/transport/websocket_limits.py", "CookieError, OSError", "OSError",
          _W + "test_a_cookie_that_cannot_be_read_is_a_typed_error"),
    Guard("a handshake without a status", "client/transport/sockets.py", "if status is None or status < 300:", "if False:",
          _W + "test_an_answer_that_is_no_handshake_is_a_typed_error"),
    Guard("streams are not led by the environment", "client/transport/sockets.py",
          'return {"http_proxy_host": "none", "http_proxy_port": 1, "http_no_proxy": ["*"]}', "return {}",
          _W + "test_the_environments_proxies_are_not_used"),
    Guard("nor past the account's proxy", "client/transport/sockets.py", '"http_no_proxy": ["-"],', "",
          _W + "test_another_machine_is_reached_through_the_proxy_whatever_the_environment_says"),
    Guard("a silent stream", "client/transport/sockets.py", "if silent:", "if False:",
          _W + "test_a_stream_that_answers_no_ping_is_given_up"),
    Guard("a stream that answers is not silent", "client/transport/sockets.py", "            silent = False\n            if", "            if",
          _W + "test_a_stream_that_answers_pings_is_waited_for"),
    # Decoder
    Guard("depth", "wire/json_text.py", "> MAX_DEPTH:", "> 10**9:",
          _J + "test_depth_has_a_limit_that_does_not_depend_on_python"),
    Guard("lists and objects", "wire/json_text.py", "if steps.count(1) > MAX_CONTAINERS:", "if False:",
          _J + "test_lists_and_objects_have_a_limit"),
    Guard("texts without an end", "wire/json_text.py", r'(?:"|\\?\Z)', '"',
          _J + "test_brackets_in_a_text_that_has_no_end_do_not_count"),
    Guard("other encodings", "wire/json_text.py", r'if b"\0" in raw[:4]:', "if False:",
          _J + "test_another_encoding_hides_no_depth[utf-16-le]"),
    Guard("digits", "wire/json_text.py", "if len(digits) > MAX_DIGITS:", "if False:",
          _J + "test_the_digits_of_a_number_have_a_limit_whatever_pythons_is[no limit]"),
    Guard("unpacking stops", "wire/codec.py", "stream.decompress(packed, left + 1)", "stream.decompress(packed)",
          _C + "test_a_bomb_takes_no_more_room_than_may_be_unpacked"),
    Guard("texts within texts", "wire/codec.py", "if _left.get() is not None:", "if False:",
          _C + "test_a_text_within_a_text_has_no_limit_of_its_own"),
    Guard("nothing but base64", "wire/codec.py", "b64decode(text, validate=True)", "b64decode(text)",
          _C + "test_a_compressed_value_with_anything_else_in_it_is_refused[!]"),
    Guard("an array's header 2.0", "wire/arrays.py", "read_array_header_2_0(buffer, max_header_size=MAX_HEADER_BYTES)",
          "read_array_header_2_0(buffer, max_header_size=10**9)", _C + "test_an_array_header_of_any_length_is_refused[version0]"),
    Guard("an array's header 3.0", "wire/arrays.py", "if size > MAX_HEADER_BYTES:", "if False:",
          _C + "test_an_array_header_of_any_length_is_refused[version1]"),
    Guard("what may be unpacked", "wire/codec.py", "if len(data) > left:", "if False:",
          _C + "test_what_unpacks_to_more_than_the_limit_is_refused"),
    Guard("all together", "wire/codec.py", "self._unpacked += unpacked", "pass",
          _C + "test_many_small_values_that_unpack_to_more_than_the_limit_together_are_refused"),
    Guard("ratio", "wire/codec.py", "max(FREE_DECODED_BYTES, self._ratio * self._packed)", "math.inf",
          _C + "test_a_bomb_is_refused_by_how_much_larger_it_gets"),
    Guard("cut streams", "wire/codec.py", "if not stream.eof:", "if False:",
          _C + "test_a_compressed_value_that_is_cut_off_is_refused"),
    Guard("an array's header", "wire/arrays.py", "if math.prod(shape) * dtype.itemsize > len(data):", "if False:",
          _C + "test_an_array_header_that_promises_more_than_there_is_is_refused"),
    Guard("no pickles", "wire/arrays.py", "np.load(buffer, allow_pickle=False,", "np.load(buffer, allow_pickle=True,",
          _C + "test_pickles_in_arrays_are_never_loaded"),
    Guard("arrays of texts", "wire/arrays.py", "str, type(None), dict}:\n        return np.array(value, dtype=object)",
          "str, type(None), dict}:\n        return np.array(value)",
          _C + "test_one_long_text_among_many_short_ones_makes_no_huge_array"),
    Guard("arrays in arrays", "wire/arrays.py", "if kinds <= {bool, int, float, complex}:", "if True:",
          _C + "test_arrays_in_an_array_of_objects_stay_as_they_are_whatever_is_beside_them"),
    Guard("a lie is a typed error", "wire/codec.py", "except Exception as error:  # noqa: BLE001 - a value that lies",
          "except ZeroDivisionError as error:  # a value that lies",
          _C + "test_a_value_that_is_not_what_its_tag_says_is_a_decode_error_that_names_the_tag"),
    Guard("QPY's mark", "wire/qiskit_values.py", 'if data[:6] != b"QISKIT" or len(data) < 7:', "if False:",
          _Q + "test_what_is_no_qpy_is_called_that"),
    Guard("a circuit's metadata", "wire/codec.py", "return read_json(s, object_hook=_revive)", "return json.loads(s, object_hook=_revive)",
          _Q + "test_a_circuits_metadata_has_the_limits_of_any_text"),
    Guard("QPY below 13", "wire/qiskit_values.py", "if data[6] < MIN_QPY_VERSION:", "if False:", _Q + "test_qpy_of_versions_that_can_execute_code_is_refused"),
    Guard("QPY's counts", "wire/qiskit_values.py", "    _check_counts(data)\n", "",
          _Q + "test_a_circuit_that_promises_too_much_is_refused_before_room_is_made[clbits-4-17]"),
    Guard("no class by name", "wire/qiskit_values.py",
          'if not str(obj.get("__module__", "")).startswith("qiskit.quantum_info.operators") or not isinstance(value, dict):',
          "if False:", _Q + "test_settings_of_a_class_that_is_not_in_the_table_stay_a_dict"),
    Guard("not IBM's decoder of tags", "wire/client_side.py", "build(model.model_validate_json(text))",
          '__import__("qiskit_ibm_runtime.decoders.executor.decoder", fromlist=["it"]).ExecutorResultDecoder.decode(text)',
          _P + "test_no_class_that_it_names_is_made"),
    Guard("arrays that IBM's models unpack", "wire/client_side.py", "_unpack_all(plain, unpack)", "_unpack_all(value, unpack)",
          _P + "test_arrays_count_wherever_they_stand[with a tag beside]"),
    Guard("more PUBs than data", "wire/client_side.py", "if promised > items > 0:", "if False:",
          _P + "test_an_estimators_answer_that_promises_more_pubs_than_it_has_data_for_is_refused_before_room_is_made"),
    Guard("arrays in what is no array", "wire/client_side.py", 'unpack(value["data"])\n', 'unpack(value["data"])\n            return\n',
          _P + "test_arrays_count_wherever_they_stand[in what is no array]"),
    # What comes from a disk, and what goes into a log
    Guard("a result's digest", "client/endpoints/jobs.py", "if contradicts(answer.headers, answer.body):\n        return False", "if False:\n        return False",
          "integration/test_digests.py::test_a_result_that_changed_on_the_line_is_asked_for_again"),
    Guard("a digest is no path", "local/files.py", 'f"result-{digest}.json" if is_digest(digest) else "result.json"',
          'f"result-{digest}.json"', "unit/local/test_files.py::test_a_digest_that_is_none_is_no_part_of_a_path[../../elsewhere]"),
    Guard("a log of no known length", "client/endpoints/jobs.py", "if answer.complete or answer.body in unsure:", "if True:",
          "unit/client/test_log_text.py::test_of_answers_that_end_with_the_connection_two_have_to_agree"),
    Guard("a tail of no known length", "client/endpoints/jobs.py", "unsure = int(not answer.complete)", "unsure = 0",
          "unit/client/test_log_text.py::test_a_tail_asks_again_where_the_answer_ended_with_the_connection[sooner]"),
    Guard("loggers clean", "wire/logs.py", "if shown != message:", "if False:",
          "unit/wire/test_logs.py::test_a_token_is_taken_out_of_message_arguments_and_traceback"),
]  # fmt: skip
