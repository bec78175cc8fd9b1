"""What outlives a process: rows, encrypted columns, message bytes. Imports nothing of ours and decides nothing."""
