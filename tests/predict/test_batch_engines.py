"""`score_batch` in Ray Data and in Spark, as docs/clusters.md shows it, each on this machine."""

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import COMMENTS, ROOT

from toxicity.predict import Scorer, score_batch

pytestmark = [
    pytest.mark.engine,
    # Of the engines themselves, which are not ours to mend.
    pytest.mark.filterwarnings("ignore"),
]

TEXTS = [*COMMENTS[:20], None, " ", *COMMENTS[20:]] * 4
# What bf16 may change, where a comment is computed together with others.
ROUNDING = 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config, tokenizer):
    """The folder that engines and examples work in, with a model, comments, and the scores that they get."""
    import torch
    from huggingface_hub import constants
    from transformers import BertForSequenceClassification

    folder = tmp_path_factory.mktemp("engines")
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_config)
    model.config.id2label, model.config.label2id = {0: "toxic"}, {"toxic": 0}
    model.save_pretrained(folder / "runs" / "sample")
    tokenizer.save_pretrained(folder / "runs" / "sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_ASSETS_CACHE", str(folder / "assets"))
        patch.setenv("HF_ASSETS_CACHE", str(folder / "assets"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.chdir(folder)
        # What workers compute with, and converted for them, where that is OpenVINO.
        scorer = Scorer("runs/sample")
        good = [text for text in TEXTS if (text or "").strip()]
        scores = iter(scorer(good))
        expected = [float(next(scores)) if (text or "").strip() else None for text in TEXTS]
        table = pa.table({"text": TEXTS, "expected": pa.array(expected, pa.float64())})
        pq.write_table(table, "comments.parquet", row_group_size=50)
        yield folder


@pytest.fixture(scope="module")
def ray(folder):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("ray.data")
    # The paths of sockets in it are limited to 107 characters.
    session = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    ray.init("local", num_cpus=4, include_dashboard=False, _temp_dir=session, object_store_memory=80 * 2**20)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()
    shutil.rmtree(session, ignore_errors=True)


@pytest.fixture(scope="module")
def spark(folder):
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        pytest.skip("Spark needs Java, which is not installed")
    from pyspark.sql import SparkSession

    options = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.sql.shuffle.partitions": "2"}
    # Spark answers Ctrl-C in this process itself, and would go on doing so when it is stopped.
    before = signal.getsignal(signal.SIGINT)
    session = SparkSession.builder.master("local[2]").config(map=options).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()
    signal.signal(signal.SIGINT, before)


def example(word):
    """The example in docs/clusters.md that has this word in it."""
    section = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8").split("## In Ray Data and Spark")[-1]
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", section, re.S) if word in code]
    return compile(code, "clusters.md", "exec")


def run_example(word, folder):
    """The table that an example of the documentation writes."""
    shutil.rmtree(folder / "scores", ignore_errors=True)
    exec(example(word), {"__name__": "__main__"})
    return pq.read_table(folder / "scores").to_pandas()


def require_expected(frame, expected="expected"):
    assert len(frame) == len(TEXTS)
    assert frame.score.isna().tolist() == frame[expected].isna().tolist()
    assert (frame.score - frame[expected]).abs().max() < ROUNDING


def test_the_example_of_ray_data(ray, folder):
    frame = run_example("map_batches", folder)
    assert list(frame) == ["text", "expected", "score", "label"]
    require_expected(frame)
    assert frame.label.isna().tolist() == frame.score.isna().tolist()
    assert (frame.label.dropna() == (frame.score.dropna() >= 0.5)).all()
    assert pq.read_schema(next((folder / "scores").iterdir())).field("label").type == pa.int8()


@pytest.mark.parametrize("batch_format", ["pandas", "pyarrow"])
@pytest.mark.long
def test_ray_data_in_other_formats(ray, batch_format):
    batches = ray.data.read_parquet("comments.parquet").map_batches(
        score_batch,
        fn_constructor_args=["runs/sample"],
        batch_format=batch_format,
        batch_size=7,
        concurrency=2,
    )
    require_expected(batches.to_pandas())
    assert batches.schema().names == ["text", "expected", "score", "label"]


def test_the_driver_of_ray_data_tells_what_is_wrong(ray):
    batches = ray.data.read_parquet("comments.parquet").map_batches(score_batch("runs/sample", "comment"))
    with pytest.raises(Exception, match="RequestError") as raised:
        batches.take_all()
    assert "the batch has no column `comment`; it has text, expected" in str(raised.value)
    assert COMMENTS[0] not in str(raised.value)


def test_the_example_of_a_function_of_spark(spark, folder):
    require_expected(run_example("pandas_udf", folder))


def test_the_example_of_rows_of_spark(spark, folder):
    frame = run_example("mapInPandas", folder)
    assert list(frame) == ["text", "score", "label"]
    scores = pq.read_table("comments.parquet").to_pandas().drop_duplicates("text").set_index("text").expected
    require_expected(frame.assign(expected=frame.text.map(scores)))


def test_spark_hands_out_iterators_and_arrow_and_loads_a_model_once_in_a_process(spark):
    from pyspark.sql.functions import pandas_udf

    score = score_batch("runs/sample")

    def toxicity(texts: Iterator[pd.Series]) -> Iterator[pd.Series]:
        return score(texts)

    comments = spark.read.parquet("comments.parquet").repartition(6)
    found = comments.withColumn("score", pandas_udf(toxicity, "double")("text"))
    require_expected(found.toPandas())
    require_expected(comments.mapInArrow(score, "text string, expected double, score double, label byte").toPandas())

    def loaded(batches):
        from toxicity.predict import batches as module

        for _ in score(batches):
            yield pd.DataFrame({"process": [os.getpid()], "loaded": [module._load.cache_info().misses]})

    frame = comments.mapInPandas(loaded, "process long, loaded int").toPandas()
    assert len(frame) == 6
    assert frame.process.nunique() <= 2
    assert (frame.loaded == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["runs/sample", "comment"], "the batch has no column `comment`; it has text, expected"),
        (["runs/none"], "runs/none"),
    ],
)
def test_the_driver_of_spark_tells_what_is_wrong(spark, options, message):
    comments = spark.read.parquet("comments.parquet")
    scored = comments.mapInPandas(score_batch(*options), "text string, score double, label byte")
    with pytest.raises(Exception, match="RequestError") as raised:
        scored.collect()
    assert message in str(raised.value)
    assert COMMENTS[0] not in str(raised.value)


def test_every_example_of_the_section_runs_here():
    for word in ("map_batches", "pandas_udf", "mapInPandas"):
        example(word)
    text = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8").split("## In Ray Data and Spark")[-1]
    assert text.count("```python") == 3
