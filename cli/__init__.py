"""The embpress command."""

if __name__ != "embpress.cli":  # a bare `import cli` from the checkout would be a second copy
    raise ImportError("import embpress.cli (install the project first: make install)")
