"""What the samples alone do not decide: in float64, without rounding, and unseen by them."""
