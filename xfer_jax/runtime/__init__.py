"""The process: progress, preemption, compiled programs, memory."""
