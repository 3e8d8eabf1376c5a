"""A model that was trained, in a second, on what a few words mean."""

import copy
import random

import pytest
import torch
from builders import CIVIL_WORDS
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import BertForSequenceClassification

# What the words add to the probability; the others add nothing.
PLANTED = {"stupid": 0.24, "idiot": 0.24, "kind": -0.24, "gardens": -0.24}


@pytest.fixture(scope="session")
def planted(tmp_path_factory, tokenizer, tiny_config):
    """A folder with a model by which `stupid` and `idiot` make a comment toxic, `kind` and `gardens` make it civil."""
    rng = random.Random(0)
    neutral = [word for word in CIVIL_WORDS if word not in PLANTED]
    torch.manual_seed(0)
    model = BertForSequenceClassification(copy.deepcopy(tiny_config))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(100):
        comments, targets = [], []
        for _ in range(32):
            words = rng.choices(neutral, k=rng.randint(2, 12))
            meant = rng.sample([*PLANTED], k=rng.choice([0, 1, 1, 2]))
            for word in meant:
                words.insert(rng.randint(0, len(words)), word)
            comments.append(" ".join(words))
            targets.append([0.5 + sum(PLANTED[word] for word in meant)])
        batch = tokenizer(comments, padding=True, return_tensors="pt", return_token_type_ids=False)
        loss = binary_cross_entropy_with_logits(model(**batch).logits, torch.tensor(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.config.id2label, model.config.label2id = {0: "toxic"}, {"toxic": 0}
    folder = tmp_path_factory.mktemp("planted")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
