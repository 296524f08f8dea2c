"""Every set, and every other method as it comes."""

from embpress.compressors import available, parse
from embpress.dlrm.sets import sets, specs_of

_HELD = tuple(dict.fromkeys(spec for name in sets() if name != "all" for spec in specs_of(name)))
METHODS = (*_HELD, *(name for name in available() if name not in {parse(spec).name for spec in _HELD}))
