"""Guards of what a request is called and of who may send it (fingerprint, claim): the table as in guards.py."""

# ruff: noqa: E501 - tables

from __future__ import annotations

from .guards import Guard

_F = "unit/client/test_fingerprint.py::"
_C = "unit/test_claims.py::"

RECORDS = [
    # Fingerprints of plain values
    Guard("all bits of a number", "client/fingerprint.py", 'text("float", float.hex(value))', 'text("float", f"{value:.12g}")',
          _F + "test_the_last_bit_of_an_angle_counts"),
    Guard("items say how long they are", "client/fingerprint.py", 'b"%b%d:%b" % (tag.encode("ascii"), len(content), content)', 'b"%b:%b" % (tag.encode("ascii"), content)',
          _F + "test_different_values_differ"),
    Guard("mappings have no order", "client/fingerprint.py", 'b"".join(sorted(items))', 'b"".join(items)', _F + "test_values_that_execute_alike_are_equal"),
    Guard("sets have no order", "client/fingerprint.py", 'b"".join(sorted(encode_at("{…}", item, depth) for item in value))', 'b"".join(encode_at("{…}", item, depth) for item in value)',
          _F + "test_equal_requests_have_equal_fingerprints_in_every_process"),
    Guard("classes without their module", "client/fingerprint.py", 'text("class", kind.__qualname__)', 'text("class", f"{kind.__module__}.{kind.__qualname__}")',
          _F + "test_equal_requests_have_equal_fingerprints_in_every_process"),
    Guard("unknown values are refused", "client/fingerprint.py", "        return _dataclass\n    raise unknown(value)", '        return _dataclass\n    return lambda value, _: text("repr", repr(value))',
          _F + "test_unknown_types_are_refused_with_their_place"),
    Guard("an array's dtype", "client/fingerprint.py", 'text("dtype", value.dtype.str), ', "", _F + "test_arrays_differ_in_dtype_shape_and_every_bit"),
    Guard("an array's shape", "client/fingerprint.py", 'value.dtype.str), shape, value', "value.dtype.str), value", _F + "test_arrays_differ_in_dtype_shape_and_every_bit"),
    Guard("an array's layout", "client/fingerprint.py", 'tobytes(order="C")', 'tobytes(order="A")', _F + "test_values_that_execute_alike_are_equal"),
    Guard("arrays whose bytes do not say all", "client/fingerprint.py", 'isinstance(value, np.ma.MaskedArray) or value.dtype.char in "gG" or ', "",
          _F + "test_arrays_whose_bytes_do_not_say_everything_are_refused"),
    Guard("every field is in the key", "client/fingerprint.py", "fingerprint, occurrence, generation)\n    digest", "fingerprint, occurrence)\n    digest",
          _F + "test_every_field_changes_the_key"),
    # Claims
    Guard("a claim of somebody alive", "claims.py", "if not self._is_dead(client, there.value):", "if False:", _C + "test_a_dead_claim_is_succeeded_by_one"),
    Guard("a successor's name that is somebody else's", "claims.py", "if dead and not self._is_there(client, dead[-1]):", "if False:",
          _C + "test_who_found_a_dead_claim_does_not_succeed_it_once_its_name_is_somebody_elses"),
    Guard("a claim that was found", "claims.py", "                self.found = True\n", "", _C + "test_a_claim_of_the_same_task_run_is_held_and_said_to_be_found"),
]  # fmt: skip
