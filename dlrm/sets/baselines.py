"""What people have without a compression method: plain tables, in few bits."""

METHODS = ("full", "full+int8", "full+int4")
