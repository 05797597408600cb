"""The wide side: a tag matrix in shared memory, the kernels that train it, the processes that run them."""
