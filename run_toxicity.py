"""Fine-tune a transformer to tell toxic comments from civil ones, and time every phase of it.

    accelerate launch run_toxicity.py                                 # the sample: real comments, any machine
    accelerate launch --config_file accelerate_configs/cpu.yaml run_toxicity.py recipes/sample.yaml
    accelerate launch run_toxicity.py recipes/sample.yaml --train_file comments.csv --max_train_samples 100000

A recipe is read first, then the flags; `--help` lists them. Precision comes from the Accelerate config.
"""

from pathlib import Path

from transformers import enable_full_determinism, set_seed

from toxicity.arguments import parse_arguments
from toxicity.console import set_up_console
from toxicity.data import labels_of, load_splits
from toxicity.dry_run import describe_data
from toxicity.errors import refusals_exit_cleanly
from toxicity.hardware import describe_machine, prepare_cpu
from toxicity.modeling import load_model, load_tokenizer
from toxicity.report import build_benchmark, write_report
from toxicity.timing import PhaseClock
from toxicity.tokenization import tokenize
from toxicity.training import ToxicityTrainer


def main() -> None:
    """The whole job, in the order in which it happens."""
    prepare_cpu()
    arguments = parse_arguments()
    data_args, model_args, training_args = arguments.data, arguments.model, arguments.training
    is_main_process = training_args.process_index == 0
    set_up_console(is_main_process, progress_bars=not training_args.disable_tqdm)
    clock = PhaseClock(training_args.device)

    splits = load_splits(data_args)
    config, tokenizer = load_tokenizer(model_args, data_args.max_seq_length)
    with clock.phase("tokenizer"), training_args.main_process_first(desc="tokenizing"):
        train, validation = (
            tokenize(
                split,
                tokenizer,
                data_args.max_seq_length,
                overwrite_cache=data_args.overwrite_cache and is_main_process,
                threads=data_args.preprocessing_num_workers,
            )
            for split in (splits.train, splits.validation)
        )
    if data_args.dry_run:
        if is_main_process:
            print(describe_data(splits, train, validation, data_args.max_seq_length))
        return

    (enable_full_determinism if training_args.full_determinism else set_seed)(training_args.seed)
    trainer = ToxicityTrainer(
        model=load_model(model_args, config),
        args=training_args,
        tokenizer=tokenizer,
        train_dataset=train.dataset.add_column("labels", labels_of(splits.train)),
        eval_dataset=validation.dataset.add_column("labels", labels_of(splits.validation)),
        clock=clock,
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    logits, auc = trainer.score(trainer.eval_dataset)
    trainer.save_model()

    benchmark = build_benchmark(
        machine=describe_machine(training_args.device, training_args.world_size * max(1, training_args.n_gpu)),
        protocol={
            "recipe": arguments.recipe,
            "dataset": splits.source,
            "model": model_args.model_name_or_path,
            "train_rows": len(splits.train),
            "validation_rows": len(splits.validation),
            "max_seq_length": data_args.max_seq_length,
            "epochs": trainer.state.epoch,
            "seed": training_args.seed,
            "mixed_precision": trainer.mixed_precision,
        },
        seconds=clock.seconds,
        tokenizer_cache_hit=train.cache_hit and validation.cache_hit,
        counts={
            "tokenized_rows": len(splits.train) + len(splits.validation),
            "trained_rows": trainer.trained_rows,
            "trained_tokens": trainer.trained_tokens,
            "scored_rows": len(splits.validation),
            "scored_tokens": int(validation.lengths.sum()),
        },
        auc=auc,
        dropped_rows=splits.dropped_rows,
    )
    if is_main_process:
        write_report(Path(training_args.output_dir), benchmark, splits.validation, logits)


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
