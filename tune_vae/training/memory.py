"""What a want of memory looks like, on a GPU and on a CPU, and how to make room again."""

import gc

import torch

__all__ = ["is_out_of_memory", "make_room"]

_WORDS = (
    # Of torch's allocator on a CPU, which raises a plain RuntimeError.
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, and so not that a program is wrong.

    Example:
        >>> try:
        ...     torch.empty(2**60)
        ... except RuntimeError as error:
        ...     is_out_of_memory(error)
        True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def make_room() -> None:
    """Let go of what nobody holds any more, so that others on a GPU may have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
