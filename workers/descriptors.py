"""How many files a process may have open."""

import logging
import resource

_WANTED = 4096
"""Of a trunk: two for each of `workers.config.MAX_WORKERS`, beside files and processes of whatever reads its data."""

_log = logging.getLogger(__name__)


def allow_many_descriptors() -> None:
    """Raise this process's own limit, as far as the system lets it: libzmq aborts a process that has reached it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_enough(soft):
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_WANTED if _is_enough(hard) else hard, hard))
    except (OSError, ValueError) as error:  # in a sandbox, say
        _log.warning("this process may have %d files open, and not the wanted %d: %s", soft, _WANTED, error)


def _is_enough(limit: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= _WANTED
