"""Chunks, replies and refusals as messages of the wire protocol."""

import dataclasses

from workers.chunk import Chunk, Reply
from workers.errors import ChunkError, HybridError, MatrixMismatch, ProtocolError
from workers.protocol import MAX_TEXT, SCHEMA, Message

_REFUSALS: dict[str, type[HybridError]] = {e.__name__: e for e in (ChunkError, ProtocolError, MatrixMismatch)}


def chunk_message(tag: int, chunk: Chunk) -> Message:
    """CHUNK: the chunk's scalars as fields and its arrays as arrays; arrays that are None are left out."""
    scalars = {name: getattr(chunk, name) for name in SCHEMA["CHUNK"].fields if name != "tag"}
    scalars["row_lr"] = float(chunk.row_lr)
    arrays = {name: getattr(chunk, name) for name in SCHEMA["CHUNK"].arrays}
    return Message("CHUNK", {"tag": tag, **scalars}, {k: a for k, a in arrays.items() if a is not None})


def chunk_of(message: Message) -> Chunk:
    """The chunk of a CHUNK message. Its values are not checked yet: `WideEngine.apply` does."""
    absent = {name: None for name, spec in SCHEMA["CHUNK"].arrays.items() if spec.optional}
    scalars = {name: value for name, value in message.fields.items() if name != "tag"}
    return Chunk(**{**absent, **scalars, **message.arrays})


def reply_message(tag: int, reply: Reply) -> Message:
    """REPLY: what the worker computed for the chunk with this tag."""
    values = {f.name: getattr(reply, f.name) for f in dataclasses.fields(reply)}
    arrays = {name: values.pop(name) for name in SCHEMA["REPLY"].arrays}
    return Message("REPLY", {"tag": tag, **{name: int(value) for name, value in values.items()}}, arrays)


def reply_of(message: Message, chunk: Chunk) -> Reply:
    """The reply in a REPLY message.

    Raises:
        ProtocolError: its arrays do not have the shapes that the chunk asks for.
    """
    for name, shape in (("loss_B", chunk.features_BD.shape[:1]), ("feature_grad_BD", chunk.features_BD.shape)):
        if message.arrays[name].shape != shape:
            raise ProtocolError(f"{name}: shape {message.arrays[name].shape}, expected {shape} as its chunk has.")
    scalars = {name: value for name, value in message.fields.items() if name != "tag"}
    return Reply(**{**scalars, **message.arrays})


def refusal_message(tag: int | None, error: HybridError) -> Message:
    """REFUSED: the type and the text of an error, for the side that caused it."""
    return Message("REFUSED", {"tag": tag, "error": type(error).__name__, "message": str(error)[: MAX_TEXT // 4]})


def error_of(message: Message) -> HybridError:
    """The error in a REFUSED message; an error of a type that this side does not know becomes a ProtocolError."""
    return _REFUSALS.get(message.fields["error"], ProtocolError)(message.fields["message"])
