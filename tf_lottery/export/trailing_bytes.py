"""Keeps what a TFLite file has behind its flatbuffer, such as the files of its metadata.

TFLite's metadata library appends label files and the like as a ZIP archive. A flatbuffer does not
say where it ends: its end is found by reading it from shorter and shorter contents.
"""

import bisect
import contextlib
import struct

ALIGNMENT = 16
# The record at the end of a ZIP archive: signature, 4 counts, and the size and the position of
# the directory, whose entries hold the position of a file 42 bytes behind their signature.
END, ENTRY = b"PK\5\6", b"PK\1\2"
END_FIELDS, ENTRY_FIELDS = struct.Struct("<4s4H2LH"), struct.Struct("<4s6H3L5H2L")
LARGE = 0xFFFFFFFF


class CheckedBytes(bytes):
    """Bytes that cannot be sliced beyond their end, where Python shortens the slice."""

    def __getitem__(self, key):
        if isinstance(key, slice) and key.stop is not None and key.stop > len(self):
            raise EOFError(f"bytes {key.start} to {key.stop} of {len(self)}")
        return super().__getitem__(key)


def find_trailing(content, outside, parse):
    """Returns where the bytes behind a flatbuffer start. There are none if that is the end.

    Args:
        content: Bytes of the file.
        outside: Integer, the end of the last weights behind the flatbuffer, 0 without.
        parse: Function of bytes that reads all of the flatbuffer, or raises an exception.
    """

    def is_complete(size):
        try:
            parse(CheckedBytes(content[:size]))
        except Exception:  # The generated code raises any kind of error on a shortened file.
            return False
        return True

    end = len(content.rstrip(b"\0"))
    if end <= outside or (not outside and not is_complete(end - 1)):
        return len(content)
    start = bisect.bisect_left(range(end), True, key=is_complete)
    start = max(start, outside)
    # The zeros before it only align it.
    return start + len(content[start:]) - len(content[start:].lstrip(b"\0"))


def append_trailing(content, trailing, position):
    """Returns a file with the bytes that followed another one.

    Args:
        content: Bytes of the file.
        trailing: Bytes to append. A ZIP archive among them gets the positions it has now.
        position: Integer, where these bytes were in the other file.
    """
    if not trailing:
        return content
    padding = bytes((position - len(content)) % ALIGNMENT)
    moved = len(content) + len(padding) - position
    # A damaged archive stays as it is: its directory is cut off, or has positions of no file.
    with contextlib.suppress(struct.error):
        trailing = _moved_archive(trailing, position, moved)
    return content + padding + trailing


def _moved_archive(trailing, position, moved):
    """Returns the bytes with a ZIP archive's positions, if it has any of the file, adjusted."""
    end = trailing.rfind(END)
    if end < 0 or end + END_FIELDS.size > len(trailing):
        return trailing
    *record, size, start, comment = END_FIELDS.unpack_from(trailing, end)
    first = end - size
    # Positions that count from the archive's own beginning remain right.
    if first < 0 or start != position + first or start == LARGE:
        return trailing
    result = bytearray(trailing)
    END_FIELDS.pack_into(result, end, *record, size, start + moved, comment)
    while result[first : first + 4] == ENTRY:
        fields = list(ENTRY_FIELDS.unpack_from(result, first))
        fields[-1] += moved
        ENTRY_FIELDS.pack_into(result, first, *fields)
        first += ENTRY_FIELDS.size + sum(fields[10:13])
    return bytes(result)
