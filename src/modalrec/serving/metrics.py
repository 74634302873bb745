"""What Prometheus reads of a server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Meters:
    """The numbers of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter("modalrec_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "modalrec_request_seconds",
            "From a request's arrival to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "modalrec_batch_histories",
            "Histories that the model answered at a time.",
            buckets=SIZES,
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "modalrec_model_seconds", "The model's time for a batch.", buckets=SECONDS, registry=self.registry
        )
        self.waiting = Gauge("modalrec_waiting_histories", "Histories that wait for the model.", registry=self.registry)
        self.refused = Counter(
            "modalrec_refused_histories", "Histories refused since too many waited.", registry=self.registry
        )
        self.unknown = Counter(
            "modalrec_unknown_items", "Items of histories that the model does not have.", registry=self.registry
        )
        self.items = Gauge("modalrec_catalogue_items", "Size of the catalogue.", registry=self.registry)
        self.model = Info("modalrec_model", "What is served.", registry=self.registry)

    def page(self) -> bytes:
        """All of them in the text format."""
        return generate_latest(self.registry)
