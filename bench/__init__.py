"""The race: this gateway and its peers, measured in turn in one run on one machine. `make bench`; figures in docs/performance.md."""
