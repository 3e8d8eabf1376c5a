"""Score files of comments: `python -m toxicity.predict --model DIR --input FILES --output DIR`."""

from toxicity.predict.job import command

if __name__ == "__main__":
    command()
