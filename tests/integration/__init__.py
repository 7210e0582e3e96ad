"""The client and the real embedded runtime on real sockets; scripted servers for what a well-behaved one never does."""
