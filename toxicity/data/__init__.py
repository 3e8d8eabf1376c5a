"""From files of comments to token ids: reading, checking, splitting and tokenising."""
