"""Fine-tune a transformer to tell toxic comments from civil ones, and time every phase of it.

    accelerate launch run_toxicity.py                                 # the sample: real comments, any machine
    accelerate launch --config_file accelerate_configs/cpu.yaml run_toxicity.py recipes/sample.yaml
    accelerate launch --config_file accelerate_configs/v100.yaml run_toxicity.py recipes/reference.yaml \\
        --gpu v100 --train_file train.csv                             # the published protocol, on that card only
    accelerate launch run_toxicity.py recipes/sample.yaml --train_file comments.csv --max_train_samples 100000

A recipe is read first, then the flags; `--help` lists them. Precision comes from the Accelerate config.
"""

import os
from pathlib import Path

from transformers import enable_full_determinism, set_seed

from toxicity.core.arguments import parse_arguments
from toxicity.core.console import set_up_console
from toxicity.core.distributed import require_all_processes
from toxicity.core.errors import refusals_exit_cleanly
from toxicity.core.schema import ID
from toxicity.data.sources import identities_of, labels_of, load_splits, targets_of
from toxicity.data.summary import summarize_data
from toxicity.data.token_dataset import TokenRows
from toxicity.data.tokenization import timed_rows, tokenize
from toxicity.evaluation.calibration import calibrate
from toxicity.evaluation.identity_probe import probe
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.hardware.cpu import prepare_cpu
from toxicity.hardware.machine import describe_machine, measure_matmul_peak
from toxicity.hardware.preflight import require_working_machine, require_working_sharing
from toxicity.hardware.timing import PhaseClock
from toxicity.hub.model_card import write_card
from toxicity.hub.publisher import Publisher
from toxicity.models.classifier import add_to_config, load_model, load_tokenizer
from toxicity.models.flops import encoder_of
from toxicity.report.benchmark import RunResult, build_benchmark, describe_protocol
from toxicity.report.write import write_report
from toxicity.training.interruption import sigterm_saves
from toxicity.training.request import describe_request
from toxicity.training.resume import FINISHED, Checkpoints
from toxicity.training.targets import objective_of
from toxicity.training.trainer import ToxicityTrainer


def main() -> None:
    """The whole job, in the order in which it happens."""
    prepare_cpu()
    arguments = parse_arguments()
    data_args, model_args, training_args = arguments.data, arguments.model, arguments.training
    require_working_sharing(training_args)
    is_main_process = training_args.process_index == 0
    set_up_console(is_main_process, progress_bars=not training_args.disable_tqdm)
    machine = describe_machine(training_args.device, training_args.world_size)
    machine["label"] = require_working_machine(
        machine,
        arguments.machine.gpu,
        arguments.machine.allow_other_gpu,
        mixed_precision=training_args.mixed_precision,
        torch_compile=training_args.torch_compile,
        use_cpu=training_args.use_cpu or os.environ.get("ACCELERATE_USE_CPU") == "True",
    )
    clock = PhaseClock(training_args.device)

    splits = load_splits(data_args)
    objective = objective_of(splits.train, arguments.objective)
    config, tokenizer = load_tokenizer(model_args, data_args.max_seq_length, training_args.mixed_precision)
    # Saved with the model, so that a pipeline cuts comments where this run did.
    tokenizer.model_max_length = data_args.max_seq_length
    with clock.phase("tokenizer"), training_args.main_process_first(desc="tokenizing"):
        train, validation = (
            tokenize(
                split,
                tokenizer,
                data_args.max_seq_length,
                overwrite_cache=data_args.overwrite_cache and is_main_process,
                threads=data_args.preprocessing_num_workers,
                head_tail=data_args.head_tail_truncation,
            )
            for split in (splits.train, splits.validation)
        )
    if data_args.dry_run:
        if is_main_process:
            print(summarize_data(splits, train, validation, data_args.max_seq_length))
        return

    train_rows = objective.add_targets(train.dataset)
    validation_rows = validation.dataset.add_column("labels", labels_of(splits.validation))
    checkpoints = Checkpoints(
        Path(training_args.output_dir),
        request=describe_request(arguments, train_rows, validation_rows),
        tokenizing={
            "seconds": clock.seconds["tokenizer"],
            "cache_hit": train.cache_hit or validation.cache_hit,
            "rows": timed_rows(train, validation),
        },
    )
    resume_from = checkpoints.choose(training_args.resume_from_checkpoint)
    clock.seconds["tokenizer"] = checkpoints.tokenizing["seconds"]

    (enable_full_determinism if training_args.full_determinism else set_seed)(training_args.seed)
    publisher = Publisher(training_args, clock)
    trainer = ToxicityTrainer(
        model=load_model(
            model_args, config, objective.names, objective.base_rates if arguments.objective.init_head_bias else None
        ),
        args=training_args,
        processing_class=tokenizer,
        train_dataset=TokenRows(train_rows),
        eval_dataset=TokenRows(validation_rows),
        clock=clock,
        checkpoints=checkpoints,
        train_ids=splits.train.select_columns(ID)[ID],
        coefficients=objective.coefficients,
        callbacks=[publisher],
    )
    machine["matmul_flops_per_second"] = measure_matmul_peak(training_args.device, trainer.mixed_precision)
    encoder = encoder_of(trainer.model)
    trainer.train(resume_from_checkpoint=resume_from)
    # Before anything that could fail: these are the hours.
    trainer.save_model()
    logits = trainer.score(trainer.eval_dataset)
    with clock.phase("metrics"):
        targets, identities = targets_of(splits.validation), identities_of(splits.validation)
        metrics = ToxicityMetric().compute(predictions=logits, references=targets, identities=identities)
        calibration = calibrate(logits, targets, training_args.seed)
    with clock.phase("probe"):
        found = probe(lambda texts: calibration.probability(trainer.score_texts(texts)), calibration.thresholds)

    scored_tokens = int(validation.lengths.sum())
    result = RunResult(
        machine=machine,
        protocol=describe_protocol(arguments, splits, trainer),
        seconds=clock.seconds,
        tokenizer_cache_hit=checkpoints.tokenizing["cache_hit"],
        interruptions=checkpoints.interruptions,
        counts={
            "tokenized_rows": checkpoints.tokenizing["rows"],
            "trained_rows": trainer.trained_rows,
            "trained_tokens": trainer.trained_tokens,
            "scored_rows": len(splits.validation),
            "scored_tokens": scored_tokens,
            "trained_flops": encoder.training_flops(trainer.trained_rows, trainer.trained_tokens),
            "scored_flops": encoder.forward_flops(len(splits.validation), scored_tokens),
        },
        metrics=metrics,
        calibration=calibration.measured,
        probe=found,
        dropped_rows=splits.dropped_rows,
    )
    benchmark = build_benchmark(result)
    if is_main_process:
        output_dir = Path(training_args.output_dir)
        with trainer.full_disk_explained(output_dir, "the report", kept="The trained model is saved."):
            add_to_config(
                output_dir,
                calibration.to_config()
                | {
                    "max_seq_length": data_args.max_seq_length,
                    "head_tail_truncation": data_args.head_tail_truncation,
                },
            )
            write_report(
                output_dir, benchmark, splits.validation, logits, trainer.state.log_history, calibration.held_out
            )
            write_card(
                output_dir, benchmark, training_args.hub_model_id, data_args.dataset_name, data_args.dataset_revision
            )
        checkpoints.note_progress(trainer.state.global_step, cause=FINISHED, trained=True)
    publisher.publish_run()


if __name__ == "__main__":
    with refusals_exit_cleanly(), sigterm_saves():
        require_all_processes()
        main()
