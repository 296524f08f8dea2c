"""The native ops only; everything else stands in pyproject.toml."""

import runpy

from setuptools import setup

build = runpy.run_path("kernels/build.py")
try:
    extra = {
        "ext_modules": [build["extension"]()],
        "cmdclass": {"build_ext": build["command"](optional=True)},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }
except ImportError as error:
    print(f"embpress: no native kernels, the plain PyTorch ops will answer: {error}")
    extra = {}
setup(**extra)
