"""Fine-tune a BERT-class model on toxic comments, and say what it took and how good it is."""
