"""From a pretrained checkpoint to a classifier, through interruptions."""
