"""Names of flags: the nearest known one to an unknown, and what has taken the place of those that others have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from toxicity.core.errors import RequestError

_PRECISION = "the Accelerate config says which precision: accelerate launch --mixed_precision bf16, fp16 or no"
_TOKENIZER = "the tokenizer is always the fast one that lies with the model: --model_name_or_path"
_SCORING = "comments are scored after training: python -m toxicity.predict --model DIR --input FILES --output DIR"
_ONE_TEXT = "one text column is classified: --text_column_name"
_PADDING = "comments are computed without padding, and cut at --max_seq_length"
_METRICS = "the metrics are always the same, AUC and bias among them; see the report"
_TOKEN = "run `hf auth login`, or set HF_TOKEN, so that the token is not in the list of processes"

# What to do instead of a flag of an older transformers, or of its examples for text classification (run_glue.py,
# run_classification.py and those without the Trainer). A flag that has only another name stands in `RENAMED`.
GONE = {
    "adafactor": "say --optim adafactor",
    "cache_dir": "set HF_HOME for models, and HF_DATASETS_CACHE for data and tokens",
    "checkpointing_steps": "say --save_strategy steps --save_steps STEPS",
    "config_name": "the config is the one that lies with the model; --config_overrides changes values of it",
    "dispatch_batches": "it is a key of --accelerator_config",
    "do_lower_case": _TOKENIZER,
    "do_regression": "the toxicity is learnt as a share by --targets soft, and as 0 or 1 by --targets hard",
    "dtype": _PRECISION,
    "ema_decay": "no averages of weights are kept",
    "evaluate_during_training": "say --eval_strategy steps, or epoch",
    "fp16_backend": _PRECISION,
    "fp16_opt_level": _PRECISION,
    "fsdp_min_num_params": "it is a key of --fsdp_config",
    "fsdp_transformer_layer_cls_to_wrap": "it is a key of --fsdp_config",
    "group_by_length": "say --train_sampling_strategy group_by_length",
    "half_precision_backend": _PRECISION,
    "ignore_mismatched_sizes": "a head for other labels is always replaced by a new one",
    "include_inputs_for_metrics": _METRICS,
    "include_tokens_per_second": "tokens per second are always in report/benchmark.json",
    "jit_mode_eval": "a trained model is exported by python -m toxicity.predict --export onnx",
    "logging_dir": "set TENSORBOARD_LOGGING_DIR for --report_to tensorboard",
    "low_cpu_mem_usage": "weights are always read that way",
    "max_predict_samples": _SCORING,
    "max_test_samples": _SCORING,
    "metric_name": _METRICS,
    "mixed_precision": "say it before run_toxicity.py: accelerate launch --mixed_precision bf16 run_toxicity.py",
    "model_type": "the kind of a model is in its config: --model_name_or_path",
    "mp_parameters": "SageMaker's model parallelism is not supported",
    "no_deprecation_warning": "the optimiser that it was about is gone",
    "num_processes": "say it before run_toxicity.py: accelerate launch --num_processes 2 run_toxicity.py",
    "output_file": _SCORING,
    "overwrite_output_dir": "a run without --resume_from_checkpoint starts anew, and replaces what it writes itself",
    "pad_to_max_length": _PADDING,
    "past_index": "it was for models that write text",
    "push_to_hub_model_id": "say --hub_model_id OWNER/NAME",
    "push_to_hub_organization": "say --hub_model_id OWNER/NAME",
    "push_to_hub_token": _TOKEN,
    "ray_scope": "searches for hyperparameters are not supported",
    "remove_columns": "columns that are not needed are not read",
    "remove_splits": "say --train_split_name and --validation_split_name",
    "save_safetensors": "weights are always saved as safetensors",
    "sharded_ddp": "shard a model over GPUs with accelerate launch --config_file accelerate_configs/fsdp.yaml",
    "shuffle_seed": "say --seed, or --data_seed for the order of the rows alone",
    "shuffle_train_dataset": "the rows are always shuffled, in an order that --seed decides",
    "split_batches": "it is a key of --accelerator_config",
    "task_name": "the comments are named by --train_file FILE, or --dataset_name NAME",
    "test_file": _SCORING,
    "test_split_name": _SCORING,
    "text_column_delimiter": _ONE_TEXT,
    "text_column_names": _ONE_TEXT,
    "token": _TOKEN,
    "tokenizer_name": _TOKENIZER,
    "torch_dtype": _PRECISION,
    "torchdynamo": "say --torch_compile true --torch_compile_backend NAME",
    "tpu_metrics_debug": "TPUs are not supported",
    "tpu_num_cores": "TPUs are not supported",
    "trust_remote_code": "code that comes with a model is never run: choose a model of a kind that transformers has",
    "use_auth_token": _TOKEN,
    "use_fast_tokenizer": _TOKENIZER,
    "use_ipex": "what it brought is in torch itself",
    "use_legacy_prediction_loop": "there is one way of scoring, and it is the fast one",
    "use_mps_device": "an Apple GPU is used where there is one; --use_cpu does without",
    "use_slow_tokenizer": _TOKENIZER,
    "validation_split_percentage": "without --validation_file a part is split off; --max_eval_samples says how many",
    "warmup_ratio": "say --warmup_steps with a share below 1, such as --warmup_steps 0.06",
    "with_tracking": "say --report_to tensorboard, or another tracker",
    "xpu_backend": "say --ddp_backend NAME",
}
# Flags that live on under another name, with the same values.
RENAMED = {
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "evaluation_strategy": "eval_strategy",
    "lr": "learning_rate",
    "max_length": "max_seq_length",
    "max_train_steps": "max_steps",
    "max_val_samples": "max_eval_samples",
    "no_cuda": "use_cpu",
    "num_warmup_steps": "warmup_steps",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
}


def require_known(names: Iterable[str], known: Sequence[str], complaint: str, prefix: str = "") -> None:
    """Raise `RequestError` for the first name that is not a known one, saying what there is instead.

    Args:
        names: flags or keys, with underscores and without the dashes before them.
        known: all there are.
        complaint: beginning of the message, before the name.
        prefix: of the names in the message: `--` for flags.
    """
    for name in names:
        if name in known:
            continue
        if name in RENAMED:
            raise RequestError(f"{complaint} `{prefix}{name}`; it is called `{prefix}{RENAMED[name]}` now.")
        if name in GONE:
            raise RequestError(f"{complaint} `{prefix}{name}`; instead of it: {GONE[name]}.")
        nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0)[0]
        raise RequestError(
            f"{complaint} `{prefix}{name}`; the nearest known one is `{prefix}{nearest}`. "
            "All of them: run_toxicity.py --help"
        )
