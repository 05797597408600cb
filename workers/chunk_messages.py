"""Chunks, replies and refusals as messages of the wire protocol."""

from workers.chunk import Chunk, Reply
from workers.errors import ChunkError, HybridError, MatrixMismatch, ProtocolError
from workers.protocol import MAX_TEXT, SCHEMA, Message

_REFUSALS: dict[str, type[HybridError]] = {e.__name__: e for e in (ChunkError, ProtocolError, MatrixMismatch)}


_ENVELOPE = frozenset({"flight_id", "berth"})
"""Fields of a message that are not the chunk's."""
_CHUNK_SCALARS = tuple(name for name in SCHEMA["CHUNK"].fields if name not in _ENVELOPE)
_CHUNK_ARRAYS = tuple(SCHEMA["CHUNK"].arrays)


def chunk_message(flight_id: int, chunk: Chunk) -> Message:
    """CHUNK: the chunk's scalars as fields and its arrays as arrays; arrays that are None are left out."""
    fields = {"flight_id": flight_id, "berth": None, **{name: getattr(chunk, name) for name in _CHUNK_SCALARS}}
    fields["row_lr"] = float(chunk.row_lr)
    arrays = {name: array for name in _CHUNK_ARRAYS if (array := getattr(chunk, name)) is not None}
    return Message("CHUNK", fields, arrays)


def chunk_of(message: Message) -> Chunk:
    """The chunk of a CHUNK message. Its values are not checked yet: `WideEngine.apply` does."""
    fields, arrays = message.fields, message.arrays
    return Chunk(
        step=fields["step"],
        chunk=fields["chunk"],
        seed=fields["seed"],
        features_BD=arrays["features_BD"],
        pos_ids=arrays["pos_ids"],
        pos_offsets=arrays["pos_offsets"],
        pos_weights=arrays.get("pos_weights"),
        example_weights=arrays.get("example_weights"),
        items_B=arrays.get("items_B"),
        true_ids=arrays.get("true_ids"),
        true_offsets=arrays.get("true_offsets"),
        num_negatives=fields["num_negatives"],
        row_lr=fields["row_lr"],
        update=fields["update"],
    )


def reply_message(flight_id: int, reply: Reply, berth: int | None = None) -> Message:
    """REPLY: what the worker computed for the chunk of this flight, which came in this berth."""
    fields = {
        "flight_id": flight_id,
        "berth": berth,
        "rows_written": reply.rows_written,
        "accidental_hits": reply.accidental_hits,
        "staleness_chunks": reply.staleness_chunks,
        "draw_ns": reply.draw_ns,
        "kernel_ns": reply.kernel_ns,
    }
    return Message("REPLY", fields, {"loss_B": reply.loss_B, "feature_grad_BD": reply.feature_grad_BD})


def reply_of(message: Message, chunk: Chunk) -> Reply:
    """The reply in a REPLY message.

    Raises:
        ProtocolError: its arrays do not have the shapes that the chunk asks for.
    """
    for name, shape in (("loss_B", chunk.features_BD.shape[:1]), ("feature_grad_BD", chunk.features_BD.shape)):
        if message.arrays[name].shape != shape:
            raise ProtocolError(f"{name}: shape {message.arrays[name].shape}, expected {shape} as its chunk has.")
    fields = message.fields
    return Reply(
        loss_B=message.arrays["loss_B"],
        feature_grad_BD=message.arrays["feature_grad_BD"],
        rows_written=fields["rows_written"],
        accidental_hits=fields["accidental_hits"],
        staleness_chunks=fields["staleness_chunks"],
        draw_ns=fields["draw_ns"],
        kernel_ns=fields["kernel_ns"],
    )


def refusal_message(flight_id: int | None, error: HybridError) -> Message:
    """REFUSED: the type and the text of an error, for the side that caused it."""
    said = {"error": type(error).__name__, "message": str(error)[: MAX_TEXT // 4]}
    return Message("REFUSED", {"flight_id": flight_id, **said})


def error_of(message: Message) -> HybridError:
    """The error in a REFUSED message; an error of a type that this side does not know becomes a ProtocolError."""
    return _REFUSALS.get(message.fields["error"], ProtocolError)(message.fields["message"])
