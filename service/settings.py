"""Every setting of the service: one frozen object, built once and passed down.

Each is also an environment variable, `HAMMINGBIRD_` and the name in capitals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""In an environment variable, with commas between them."""


class Settings(BaseSettings):
    """The limits have their unit in their name and their reason in their description."""

    model_config = SettingsConfigDict(env_prefix="HAMMINGBIRD_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on; loopback unless told otherwise")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    allow_open: bool = Field(
        False,
        description="listen beyond loopback without keys; only where something else, a proxy or the network of a "
        "container, decides who may ask",
    )
    allowed_hosts: Names = Field(
        (),
        description="names by which browsers may ask for this service, without port; by default, while there are no "
        "keys, those without a dot, so that no web page can have a name that means this machine (DNS rebinding). "
        "Addresses and localhost always may",
    )
    cors_origins: Names = Field(
        (),
        description="origins, such as https://app.example.com, whose pages may use this service from a browser; none, "
        "since a page may do whatever the person who opens it may",
    )
    data_dir: Path = Field(Path("hammingbird-data"), description="folder that holds everything the service keeps")
    models_dir: Path | None = Field(
        None,
        description="folder that holds the models; by default `models` in data_dir. Services that share a Milvus share "
        "it too, and may all write to it",
    )
    milvus_uri: str | None = Field(
        None,
        description="Milvus, for collections that one machine does not hold: `http://host:19530`, or the path of a "
        "Milvus Lite file; by default none",
    )
    milvus_token: SecretStr = Field(SecretStr(""), description="`user:password` or API key for Milvus; none by default")
    milvus_timeout_s: float = Field(
        10, gt=0, description="time for the answer to one call to Milvus; then the request is refused with 503"
    )
    milvus_consistency: Literal["strong", "bounded"] = Field(
        "strong",
        description="of searches in Milvus: `strong` finds all that was acknowledged anywhere, and waits for Milvus's "
        "next time tick for it (200 ms unless Milvus is told otherwise); `bounded` answers at once and may miss what "
        "was written in the last seconds",
    )
    default_backend: Literal["embedded", "milvus"] = Field(
        "embedded", description="where collections are kept that are made without saying it: `embedded` or `milvus`"
    )
    keys_dir: Path | None = Field(
        None,
        description="folder of keys.json, where that is not in the data directory: replicas share one, or have it of a "
        "secret",
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="least severe line to log")
    slow_request_ms: float = Field(
        1000, ge=0, description="a request that takes longer is logged as a warning; streams, which may last, are not"
    )
    threads: int = Field(
        1, ge=1, le=256, description="threads of one model call; requests run side by side, so one each is fastest"
    )
    max_body_bytes: int = Field(
        64 * 2**20,
        ge=1024,
        description="largest request body, and longest line of a stream; about 20,000 thumbnails or one large batch of "
        "vectors",
    )
    body_timeout_s: float = Field(
        30,
        gt=0,
        description="time to receive a whole body, or the next part of a stream; uvicorn itself would wait for ever",
    )
    max_snapshot_bytes: int = Field(
        256 * 2**30,
        ge=1024,
        description="largest snapshot taken as an upload; it is stored as it comes, so the disk sets the other limit",
    )
    min_free_bytes: int = Field(
        128 * 2**20,
        ge=0,
        description="room to be left on the disk: below it nothing is added (507) and searches go on; twice the "
        "largest body, so that what is in flight still fits, and so does what gives room back",
    )
    max_members: int = Field(
        50_000,
        ge=1,
        description="names of members in one JSON body; each becomes objects and perhaps a fault to be told, so a "
        "megabyte of them would take seconds",
    )
    max_ingest_members: int = Field(
        250_000,
        ge=1,
        description="the same of a body of items, which have payloads: 10,000 of them with 20 fields each",
    )
    max_items: int = Field(
        10_000, ge=1, le=10_000, description="items in one request; keeps a batch's tensors below a gigabyte"
    )
    max_image_pixels: int = Field(
        40_000_000, ge=1, description="pixels of one image, read from its header; 120 MB decoded"
    )
    max_request_pixels: int = Field(
        2_000_000_000, ge=1, description="pixels of all the images of one request; about forty seconds of decoding"
    )
    max_audio_seconds: float = Field(
        300, gt=0, description="length of one sound, read from its header; 115 MB decoded as stereo at 48 kHz"
    )
    max_request_audio_seconds: float = Field(
        10_000, gt=0, description="length of all the sounds of one request; about half a minute of decoding"
    )
    max_text_chars: int = Field(
        200_000, ge=1, description="length of one text; a hash of a book is not a hash of its parts"
    )
    max_vector_dim: int = Field(65_536, ge=1, description="numbers in one vector")
    max_payload_bytes: int = Field(
        65_536, ge=2, description="one item's payload as JSON; payloads are read for every hit"
    )
    max_k: int = Field(10_000, ge=1, description="nearest neighbours of one search")
    max_limit: int = Field(10_000, ge=1, description="hits in one page of a radius search")
    max_oversampled: int = Field(
        20_000,
        ge=1,
        description="nearest codes that a search with oversample, or with an exact rerank, chooses from (k x "
        "oversample); to decode so many thumbnails takes a second or two",
    )
    max_oversampled_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="of kept inputs that one exact rerank compares; photographs take a second for 4 MiB to decode",
    )
    max_searches: int = Field(256, ge=1, le=10_000, description="searches in one batch")
    max_batch_hits: int = Field(100_000, ge=1, description="hits of a whole batch; with payloads about 100 MB of reply")
    remember_queries: int = Field(
        256,
        ge=0,
        le=10_000,
        description="searches of a collection that are remembered, in memory alone, to try another model on before it "
        "serves; 0 remembers none. At most 256 KiB each",
    )
    request_timeout_s: float = Field(
        30,
        gt=0,
        description="time for the answer to a search or to anything that is only read, from when its body is here; a "
        "client has mostly given up by then, and what it waited for is free again",
    )
    long_request_timeout_s: float = Field(
        600,
        gt=0,
        description="the same for what stores, makes, rewrites or restores something, or encodes many items; streams "
        "have no such limit while they go on",
    )
    max_encode_waiting: int = Field(
        512,
        ge=1,
        description="searches that wait for one model to encode their input, more are refused with 429; a small model "
        "is through with so many in a tenth of a second",
    )
    max_search_waiting: int = Field(
        512,
        ge=1,
        description="requests that wait for a worker thread when another search that needs one is refused with 429; "
        "what is short needs none",
    )
    max_generate: int = Field(256, ge=1, description="items generated by one request")
    max_denoise_steps: int = Field(100, ge=1, description="refining steps of one denoise")
    inline_index_bytes: int = Field(
        128 * 2**20,
        ge=0,
        description="a collection keeps copies of its codes in the order of its buckets where they take no more than "
        "this: radius searches are up to twice as fast, the index takes up to twice the memory",
    )
    max_groups: int = Field(
        1000,
        ge=0,
        description="groups of duplicates listed in a job's result, which is read with every look at the job",
    )
    max_group_ids: int = Field(10_000, ge=0, description="ids in all groups of a job's result; at most 5 MB")
    max_calibration_queries: int = Field(
        5000,
        ge=10,
        description="queries of a calibration; each is compared with every item, some seconds for a thousand "
        "among ten million",
    )
    max_jobs_running: int = Field(
        1, ge=1, le=64, description="jobs at a time; each has a process of its own and uses all the cores it is given"
    )
    max_jobs_waiting: int = Field(16, ge=0, description="jobs queued behind those that run; more are refused with 429")
    health_every_s: float = Field(
        300,
        ge=0,
        description="least time between two examinations of a collection for the metrics, when it has changed; one "
        "takes a second of one core for a million items",
    )
    max_connections: int = Field(
        500,
        ge=2,
        description="connections at once; beyond them requests are answered with 503 until some close. Each takes one "
        "of the 1,024 files that a process may usually have open",
    )
    shutdown_grace_s: int = Field(30, ge=1, description="time in which requests in flight are finished at a stop")

    @property
    def models_path(self) -> Path:
        """The folder that holds the models."""
        return self.data_dir / "models" if self.models_dir is None else self.models_dir

    @property
    def keys_folder(self) -> Path:
        """Where keys.json is."""
        return self.keys_dir or self.data_dir


_INTRODUCTION = """# Settings

Each is an environment variable, `HAMMINGBIRD_` and the name in capitals: `HAMMINGBIRD_MAX_K=1000`. `serve` takes the
first few as options too. What is beyond a limit is refused with a problem that names it; nothing is cut down silently.
A radius needs no limit: it is at most the width of the codes, and what it finds comes in pages of `max_limit`.
This page is written by `tools/settings-table`.

| setting | default | what it is for |
|---|---|---|
"""
_TRACING = """
Traces are sent where `OTEL_EXPORTER_OTLP_ENDPOINT` says (OTLP over HTTP, `pip install 'hammingbird[otel]'`); without it
nothing is sent anywhere. The other `OTEL_` variables mean what they always do; the service's name is `hammingbird`.
"""


def as_markdown() -> str:
    """The page of the documentation that describes every setting."""
    rows = [
        f"| `{name}` | {_shown(name, field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return _INTRODUCTION + "\n".join(rows) + "\n" + _TRACING


def _shown(name: str, value: Any) -> str:
    if value in ((), None, SecretStr("")):
        return "none"
    if name == "port":
        return f"{value}"
    if name.endswith("_bytes") and value >= 2**20:
        return f"{value:,} ({value // 2**20} MiB)"
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else f"`{value}`"
