"""The bytes of a TFRecord file of tf.train.Examples, written without TensorFlow.

A record is its length (uint64), a checksum of these 8 bytes, its bytes, and a checksum of them. A checksum is CRC-32C,
masked as TensorFlow does. An Example is written by protobuf's rules for its few kinds of fields.
"""
import functools
import struct

import numpy as np

_POLYNOMIAL = 0x82f63b78            # of CRC-32C, its bits reversed
_BLOCK = 1024                       # bytes whose contributions to a checksum are looked up at once
_MASK = 0xa282ead8                  # added to a checksum that is turned by 15 bits


@functools.cache
def _contributions():
    """Make the table [_BLOCK, 256] of what a byte contributes to a CRC-32C, by how many bytes of a block come first.

    A checksum is linear: the contributions of all bytes are joined by exclusive or.
    """
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint32(_POLYNOMIAL)
    rows = [table]
    for _ in range(_BLOCK - 1):                     # one more byte, a zero, comes after
        rows.append(table[rows[-1] & 255] ^ rows[-1] >> 8)
    return np.stack(rows[::-1])


def crc32c(content):
    """Compute the CRC-32C (Castagnoli) of bytes -> a number of 32 bits."""
    table = _contributions()
    if len(content) < 4:
        state = 0xffffffff
        for byte in content:
            state = int(table[-1, (state ^ byte) & 255]) ^ state >> 8
        return state ^ 0xffffffff
    # Zeros before the first byte contribute nothing, as long as the state is 0. So the state of the beginning, all
    # ones, is joined to the first 4 bytes, which has the same effect.
    data = np.zeros(-(-len(content) // _BLOCK) * _BLOCK, np.uint8)
    first = len(data) - len(content)
    data[first:] = np.frombuffer(content, np.uint8)
    data[first:first + 4] ^= 255
    blocks = np.bitwise_xor.reduce(table[np.arange(_BLOCK), data.reshape(-1, _BLOCK)], axis=1).tolist()
    state = blocks[0]
    for block in blocks[1:]:                        # the state acts as if it were joined to the next 4 bytes
        state = block ^ int(table[0, state & 255] ^ table[1, state >> 8 & 255] ^ table[2, state >> 16 & 255]
                            ^ table[3, state >> 24])
    return state ^ 0xffffffff


def _masked(content):
    """Compute the masked checksum of bytes -> its 4 bytes."""
    checksum = crc32c(content)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + _MASK) & 0xffffffff)


def frame(content):
    """Write bytes as a record of a TFRecord file."""
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def example(features):
    """Write a tf.train.Example with these `features` {name: bytes, or an int from 0 up}, one value each -> bytes."""
    entries = []
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = _field(1, _field(1, value))                   # bytes_list { value }
        else:
            feature = _field(3, _field(1, _varint(value)))          # int64_list { value, packed }
        entries.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
    return _field(1, b"".join(entries))


def _field(number, content):
    """Write the field `number` of a message, whose value has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    """Write a whole number, 7 bits a byte, the lowest first."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
