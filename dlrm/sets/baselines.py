"""What people have without a compression method: plain tables, narrower, in few bits, of the frequent rows only."""

METHODS = ("full", "narrow", "top", "full+int8", "full+int4", "full+int2:train=true", "narrow+int8", "narrow+int4")
