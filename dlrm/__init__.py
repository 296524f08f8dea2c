"""The DLRM harness: data, model, training, evaluation, latency, records."""

if __name__ != "embpress.dlrm":  # a bare `import dlrm` from the checkout would be a second copy
    raise ImportError("import embpress.dlrm (install the project first: make install)")
