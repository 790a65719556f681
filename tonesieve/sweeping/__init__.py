"""Many runs: what they are, where their results live, who does them, what they come to."""
