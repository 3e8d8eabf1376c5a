"""All private names of transformers, accelerate, torch and Ray that are used; an upgrade that changes one fails here.

A name is private if it starts with an underscore: methods that are overridden or called, attributes, imports, keyword
arguments, and attributes that are named by strings. Nothing else of these libraries is used that an upgrade may change
without notice, except what `test_a_checkpoint_holds_what_the_trainer_saves` says.
"""

import ast
import functools
import importlib
import inspect
import re
import textwrap

import pytest
import torch
from builders import ROOT
from transformers import Trainer

FILES = [*sorted((ROOT / "toxicity").rglob("*.py")), ROOT / "run_toxicity.py"]
PRIVATE = re.compile(r"_[a-zA-Z]\w*")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
LIBRARIES = ("transformers", "accelerate", "torch")

# Overridden or called: parameters without their annotations.
METHODS = {
    # Overridden: the gradient norm of every step, the best checkpoint verified, whole checkpoints, order of the rows.
    "transformers.trainer:Trainer._get_grad_norm": "self, model, grad_norm=None",
    "transformers.trainer:Trainer._load_best_model": "self",
    "transformers.trainer:Trainer._save_checkpoint": "self, model, trial",
    "transformers.trainer:Trainer._get_train_sampler": "self, train_dataset=None",
    # Called: the files of a checkpoint.
    "transformers.trainer:Trainer._save_optimizer_and_scheduler": "self, output_dir",
    "transformers.trainer:Trainer._save_scaler": "self, output_dir",
    "transformers.trainer:Trainer._save_rng_state": "self, output_dir",
    # Called: an evaluation that an interruption cut off.
    "transformers.trainer:Trainer._evaluate": "self, trial, ignore_keys_for_eval, skip_scheduler=False",
    "transformers.trainer:Trainer._determine_best_metric": "self, metrics, trial",
}
# Read or written: everything that the class assigns to it.
ATTRIBUTES = {
    # The loss since it was last logged, which a checkpoint keeps.
    "transformers.trainer:Trainer._tr_loss": {"torch.tensor(0.0, device=args.device)"},
    "transformers.trainer:Trainer._total_loss_scalar": {"0.0"},
    "transformers.trainer:Trainer._globalstep_last_logged": {"self.state.global_step"},
    # The batch size that `--auto_find_batch_size` may lower.
    "transformers.trainer:Trainer._train_batch_size": {
        *("args.train_batch_size", "self.args.train_batch_size", "state.train_batch_size", "batch_size"),
    },
    # Every flag, for the nearest one to an unknown.
    "argparse:_ActionsContainer._option_string_actions": {"{}"},
}
# Functions of private modules of Ray, an extra: which cluster `auto` is, Ray alone knows.
FUNCTIONS = {"ray._private.services:canonicalize_bootstrap_address": "addr, temp_dir=None"}
# Keyword arguments, by the method that takes them.
KEYWORDS = {
    "transformers.trainer:Trainer.save_model": ("_internal_call", "self, output_dir=None, _internal_call=False")
}
# Named by strings: the module that has them.
STRINGS = {
    "_attn_implementation": "transformers.configuration_utils",
    "_commit_hash": "transformers.configuration_utils",
    "_name_or_path": "transformers.configuration_utils",
    "_original_forward": "accelerate.utils.other",
}
# Documented names of the standard library: `_replace` of named tuples, and `os._exit`.
PUBLIC = ("_replace", "_exit")
# Operators of torch: how their schema begins. Later versions may add options after those that are used.
OPERATORS = {
    "_is_mkldnn_bf16_supported": "mkldnn::_is_mkldnn_bf16_supported() -> bool _0",
    "_efficient_attention_forward": (
        "aten::_efficient_attention_forward(Tensor query, Tensor key, Tensor value, Tensor? bias, "
        "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, SymInt? max_seqlen_q, SymInt? max_seqlen_k, float dropout_p, "
        "int custom_mask_type, bool compute_log_sumexp=False, *, float? scale=None, "
    ),
    "_flash_attention_forward": (
        "aten::_flash_attention_forward(Tensor query, Tensor key, Tensor value, Tensor? cum_seq_q, Tensor? cum_seq_k, "
        "SymInt max_q, SymInt max_k, float dropout_p, bool is_causal, bool return_debug_mask, *, float? scale=None, "
    ),
    # Weights in another dtype, in one kernel.
    "_foreach_copy_": "aten::_foreach_copy_(Tensor(a!)[] self, Tensor[] src, bool non_blocking=False) -> ()",
}


def owner_of(name):
    module, path = name.split(":")
    return getattr(importlib.import_module(module), path.split(".")[0]), path.split(".")[1]


def parameters_of(function):
    parameters = inspect.signature(function).parameters.values()
    return ", ".join(str(parameter.replace(annotation=parameter.empty)) for parameter in parameters)


def source_of(thing):
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_what_it_took(name):
    owner, method = owner_of(name)
    assert parameters_of(getattr(owner, method)) == METHODS[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_it_took(name):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    module, function = name.split(":")
    assert parameters_of(getattr(importlib.import_module(module), function)) == FUNCTIONS[name]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_is_assigned_what_it_was(name):
    owner, attribute = owner_of(name)
    assigned = {
        ast.unparse(node.value)
        for node in ast.walk(source_of(owner))
        if isinstance(node, ast.Assign) and f"self.{attribute}" in map(ast.unparse, node.targets)
    }
    assert assigned == ATTRIBUTES[name]


@pytest.mark.parametrize("name", KEYWORDS)
def test_a_keyword_is_taken(name):
    owner, method = owner_of(name)
    assert parameters_of(getattr(owner, method)) == KEYWORDS[name][1]


@pytest.mark.parametrize("name", STRINGS)
def test_a_name_in_a_string_is_still_one(name):
    assert is_named_in(name, importlib.import_module(STRINGS[name]))


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_of_torch_is_what_it_was(name):
    namespace = OPERATORS[name].split("::")[0]
    assert str(getattr(getattr(torch.ops, namespace), name).default._schema).startswith(OPERATORS[name])


def test_a_checkpoint_holds_what_the_trainer_saves():
    """`ResumableTrainer._write_checkpoint` repeats the Trainer's own; a new file or field of it would be missed."""
    written = {
        ast.unparse(node.func)
        for node in ast.walk(source_of(Trainer._save_checkpoint))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("self.")
    }
    assert written == {
        *("self.store_flos", "self._get_output_dir", "self.save_model", "self._save_optimizer_and_scheduler"),
        *("self._save_scaler", "self._save_rng_state", "self.state.save_to_json", "self._push_from_checkpoint"),
        "self.state.stateful_callbacks[cb_name].append",
    }


def test_nothing_private_is_used_that_is_not_listed_and_nothing_is_listed_that_is_not_used():
    listed = {name.split(".")[-1] for name in (*METHODS, *ATTRIBUTES)} | {keyword for keyword, _ in KEYWORDS.values()}
    listed |= {name.split(".")[1] for name in FUNCTIONS}
    trees = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    own = set().union(*map(names_defined_in, trees.values()))
    used = {name: module for module, tree in trees.items() for name in private_names(tree, own, bases_in(module))}
    assert used.keys() == listed | set(STRINGS) | set(OPERATORS), used


def test_uses_of_private_names_are_found():
    tree = ast.parse(
        """
        from torch._C import x
        from transformers import Trainer, _y
        class Mine(Trainer):
            def _save(self, folder):
                self._mine = self._tr_loss
                super()._save(folder, _z=1)
            def _mine(self):
                self.accelerator._prepare()
                getattr(self, "_commit_hash")
                self._mine()
        """.replace("\n        ", "\n")
    )
    used = private_names(tree, names_defined_in(tree), bases_of=lambda name: [Trainer])
    assert used == {"_C", "_y", "_save", "_tr_loss", "_z", "_prepare", "_commit_hash"}


def private_names(tree, own, bases_of):
    """Private names in a module that are not this package's `own`, or that a class has from bases in `LIBRARIES`."""
    inherited = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names = set().union(*map(names_of_class, bases_of(node.name)))
            inherited |= dict.fromkeys(ast.walk(node), names)
    return {
        name
        for node in ast.walk(tree)
        for name in names_at(node)
        if PRIVATE.fullmatch(name) and name not in PUBLIC and (name not in own or name in inherited.get(node, ()))
    }


def names_at(node):
    match node:
        case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.keyword(arg=str(name)) | ast.arg(arg=name):
            return {name}
        case ast.Import(names=aliases):
            return {part for alias in aliases for part in alias.name.split(".")}
        case ast.ImportFrom(names=aliases, module=str(module)):
            return {*module.split("."), *(alias.name for alias in aliases)}
        case ast.Constant(value=str(text)) if PRIVATE.fullmatch(text):
            modules = map(
                importlib.import_module, [*STRINGS.values(), "transformers.trainer", "accelerate.accelerator"]
            )
            return {text} if any(is_named_in(text, module) for module in modules) else set()
    return set()


def names_defined_in(tree):
    """Names of functions, classes, variables and attributes that a module defines."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


@functools.cache
def names_of_class(owner):
    """Names of a class's methods and of the attributes that these use."""
    try:
        tree = source_of(owner)
    except (OSError, TypeError):  # made in C
        return set(vars(owner))
    return set(vars(owner)) | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def bases_in(module):
    def bases_of(name):
        found = getattr(importlib.import_module(module), name, object)
        return [base for base in found.__mro__[1:] if base.__module__.split(".")[0] in LIBRARIES]

    return bases_of


def is_named_in(name, module):
    return re.search(rf"(?<!\w){name}(?!\w)", inspect.getsource(module)) is not None


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)
