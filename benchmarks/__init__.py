"""What the Reach of this package rests on: each contender measured in one run, interleaved, medians reported."""
