"""What pyproject.toml cannot say: folder `X/` is installed as `embpress.X`, and the native ops are compiled."""

import runpy

from setuptools import find_packages, setup

# the folders lie at the top; installed they are embpress.X, so that they never meet other people's `kernels` or `cli`
FOLDERS = ("compressors", "kernels", "dlrm", "reports", "cli")
packages = [name for folder in FOLDERS for name in (folder, *(f"{folder}.{own}" for own in find_packages(folder)))]

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
setup(packages=["embpress", *(f"embpress.{name}" for name in packages)], package_dir={"embpress": "."}, **extra)
