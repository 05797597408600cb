"""The typed errors of the whole project: callers match types, never text."""


class HybridError(Exception):
    """Base of every error that this project raises on purpose. The message says what, got, expected, and what to do."""


class ConfigError(HybridError):
    """A setting has an unknown name or a value that breaks its rule."""


class DataError(HybridError):
    """A data set cannot be read, or holds nothing that can be trained on."""


class ProtocolError(HybridError):
    """A message broke the wire protocol; the message names the field."""


class ChunkError(HybridError):
    """A worker refused a chunk (id out of range, non-finite features, wrong shape); the message names the field."""


class WorkerLost(HybridError):
    """Workers died, or went silent, more often than the pool replaces them."""


class HeadClosed(HybridError):
    """A wide head is asked something after its `close`."""


class MatrixMismatch(HybridError):
    """A shared matrix, a checkpoint or a peer does not have the arrays, shapes or types that were expected."""


class RunError(HybridError):
    """A run directory is missing, incomplete, or busy."""


class UnreadableFile(HybridError):
    """The system does not let a file be read (permission, too many open files, a failing disk): it may be whole."""


class TrunkDiverged(HybridError):
    """The trunk's weights are not finite any more; the message names one, and what to go on from."""
