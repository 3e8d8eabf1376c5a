"""Fine-tune a transformer to tell toxic comments from civil ones, and time every phase of it.

    accelerate launch run_toxicity.py                                 # the sample: real comments, any machine
    accelerate launch --config_file accelerate_configs/cpu.yaml run_toxicity.py recipes/sample.yaml
    accelerate launch --config_file accelerate_configs/v100.yaml run_toxicity.py recipes/reference.yaml \\
        --gpu v100 --train_file train.csv                             # the published protocol, on that card only
    accelerate launch run_toxicity.py recipes/sample.yaml --train_file comments.csv --max_train_samples 100000

A recipe is read first, then the flags; `--help` lists them. Precision comes from the Accelerate config.
"""

from pathlib import Path

from toxicity.core.errors import refusals_exit_cleanly
from toxicity.training.interruption import sigterm_saves


def main() -> None:
    """The whole job, in the order in which it happens; each part of it imports what it needs, as imports take seconds.

    `--help` waits for the first part only, and a dry run for two of them.
    """
    from toxicity.core.arguments import parse_arguments
    from toxicity.core.console import set_up_console
    from toxicity.core.distributed import require_all_processes
    from toxicity.core.wanted import priors_of
    from toxicity.hardware.memory import full_card_explained
    from toxicity.hardware.preflight import check_machine
    from toxicity.hardware.process import prepare_process
    from toxicity.training.machines import require_shared_output

    require_all_processes()
    prepare_process()
    with full_card_explained():
        arguments = parse_arguments()
    data_args, args = arguments.data, arguments.training
    is_main_process = args.process_index == 0
    set_up_console(is_main_process, progress_bars=not args.disable_tqdm)
    machine = check_machine(arguments.machine, args)
    require_shared_output(args)

    # The data, up to its tokens.
    from toxicity.data.sources import load_splits
    from toxicity.data.summary import summarize_data
    from toxicity.data.tokenization import tokenize_splits
    from toxicity.hardware.timing import PhaseClock
    from toxicity.models.classifier import add_to_config, load_model, load_tokenizer
    from toxicity.training.best_metric import require_measurable
    from toxicity.training.targets import add_columns, objective_of, validation_labels

    clock = PhaseClock(args.device)
    splits = load_splits(data_args, args.seed)
    objective = objective_of(splits.train, arguments.objective, splits.absent, splits.labels, splits.counterfactuals)
    judged_by = validation_labels(splits.validation, splits.labels)
    priors = priors_of(arguments.calibration.prior, len(splits.labels))
    require_measurable(args.metric_for_best_model, splits.labels, judged_by)
    config, tokenizer = load_tokenizer(arguments.model, data_args.max_seq_length, args.mixed_precision, splits.labels)
    with clock.phase("tokenizer"), args.main_process_first(desc="tokenizing"):
        tokens = tokenize_splits(splits, tokenizer, data_args, data_args.overwrite_cache and is_main_process)
    if data_args.dry_run:
        if is_main_process:
            print(summarize_data(splits, *tokens, data_args.max_seq_length))
        return

    # The training, the report and the Hub.
    from transformers import enable_full_determinism, set_seed

    from toxicity.core.schema import ID, TARGET, WORD_FOR
    from toxicity.data.token_dataset import TokenRows
    from toxicity.hardware.machine import measure_matmul_peak
    from toxicity.hub.model_card import write_card
    from toxicity.hub.publisher import Publisher
    from toxicity.models.flops import encoder_of
    from toxicity.report.benchmark import build_benchmark, describe_protocol
    from toxicity.report.write import write_report
    from toxicity.training.evaluate import evaluate
    from toxicity.training.request import describe_request
    from toxicity.training.resume import FINISHED, Checkpoints
    from toxicity.training.trainer import ToxicityTrainer

    train_rows = objective.add_targets(tokens.train.dataset)
    validation_rows = add_columns(tokens.validation.dataset, {"labels": judged_by})
    checkpoints = Checkpoints(
        Path(args.output_dir),
        request=describe_request(arguments, splits.labels, train_rows, validation_rows),
        tokenizing=tokens.timing(clock.seconds["tokenizer"]),
    )
    resume_from = checkpoints.choose(args.resume_from_checkpoint)

    (enable_full_determinism if args.full_determinism else set_seed)(args.seed)
    publisher = Publisher(args, clock)
    with full_card_explained(args.device, "this model"):
        trainer = ToxicityTrainer(
            model=load_model(arguments.model, config, objective.names, objective.head_rates),
            args=args,
            processing_class=tokenizer,
            train_dataset=TokenRows(train_rows, objective.originals),
            eval_dataset=TokenRows(validation_rows),
            clock=clock,
            checkpoints=checkpoints,
            train_ids=splits.train.select_columns(ID)[ID],
            loss_options=objective.loss_options,
            callbacks=[publisher],
        )
        machine["matmul_flops_per_second"] = measure_matmul_peak(args.device, trainer.accelerator.mixed_precision)
    # Before training, which may divide the weights among processes.
    encoder = encoder_of(trainer.model)
    trainer.train(resume_from_checkpoint=resume_from)
    # Before anything that could fail: these are the hours.
    trainer.save_model()
    # A label that nobody named is called what it is about.
    names = splits.labels if data_args.label_column_names else (WORD_FOR[TARGET],)
    evaluation = evaluate(trainer, splits, names, data_args, arguments.calibration.wanted, priors)
    protocol = describe_protocol(arguments, splits, trainer)
    benchmark = build_benchmark(machine, protocol, splits, trainer, encoder, evaluation)
    if is_main_process:
        with trainer.full_disk_explained(Path(args.output_dir), "the report", kept="The trained model is saved."):
            # So that a Scorer truncates comments as this training did.
            truncation = {name: getattr(data_args, name) for name in ("max_seq_length", "head_tail_truncation")}
            add_to_config(Path(args.output_dir), evaluation.settings() | truncation)
            write_report(args.output_dir, benchmark, splits.validation, evaluation, trainer.state.log_history)
            write_card(
                args.output_dir, benchmark, args.hub_model_id, data_args.dataset_name, data_args.dataset_revision
            )
        checkpoints.note_progress(trainer.state.global_step, cause=FINISHED, trained=True)
    publisher.publish_run()


if __name__ == "__main__":
    with refusals_exit_cleanly(), sigterm_saves():
        main()
