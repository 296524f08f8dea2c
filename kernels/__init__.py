"""Operators behind the compressors."""

if __name__ != "embpress.kernels":  # a bare `import kernels` from the checkout would be a second copy
    raise ImportError("import embpress.kernels (install the project first: make install)")
