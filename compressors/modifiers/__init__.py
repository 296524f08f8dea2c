"""What wraps a method, one file each: `robe+bf16`."""
