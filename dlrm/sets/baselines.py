"""What people have without a compression method: plain tables, narrower, of frequent rows alone, in few bits."""

METHODS = (
    *("full", "full+int8", "full+int4", "full+int2:train=true"),
    *("narrow", "narrow+int4", "top", "top+int4"),
)
