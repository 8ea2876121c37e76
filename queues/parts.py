"""What several activities are given: meters, links, the provider's client as the settings describe it."""

from datetime import timedelta
from functools import partial

from temporalio.client import Client

from activities.meters import AttemptMeter, EntryMeter, ModelLabels, PauseMeter
from billing.database import Database
from billing.stored_pictures import find_makers
from imaging.catalogue import Catalogue
from imaging.client import ProviderSettings
from imaging.ownership import PictureOwners
from imaging.picture_links import PictureLinks
from imaging.store import ImageStore
from runtime.embedded import SIMULATOR
from runtime.metrics import find_meter
from runtime.settings import Settings

# A worker that is told to stop lets its calls finish: as long as an attempt may take (workflows.policies.CALL_ATTEMPT).
GRACE = timedelta(minutes=11)


def build_attempt_meter(client: Client, settings: Settings) -> AttemptMeter:
    """What counts attempts for Prometheus, or for nobody where METRICS_ADDRESS is not set."""
    labels = ModelLabels(Catalogue.load(settings.provider_name()))
    return AttemptMeter(find_meter(client), labels, simulated=is_simulated(settings))


def build_entry_meter(client: Client, settings: Settings) -> EntryMeter:
    """What counts entries of the ledger, likewise."""
    labels = ModelLabels(Catalogue.load(settings.provider_name()))
    return EntryMeter(find_meter(client), labels, simulated=is_simulated(settings))


def build_pause_meter(client: Client, settings: Settings) -> PauseMeter:
    """What shows the provider's pauses, likewise."""
    labels = ModelLabels(Catalogue.load(settings.provider_name()))
    return PauseMeter(find_meter(client), labels, simulated=is_simulated(settings))


def find_links(settings: Settings) -> PictureLinks | None:
    """Links to pictures, where a deployment has them."""
    return PictureLinks.configure(
        settings.image_links_url, settings.image_links_keys(), settings.image_links_days
    )


def is_simulated(settings: Settings) -> bool:
    """Whether the simulator stands in for the provider: what it is paid is no money."""
    return settings.provider_name() == SIMULATOR


def provider_settings(settings: Settings) -> ProviderSettings:
    """The provider's client as the environment describes it."""
    return ProviderSettings(
        api_key=settings.provider_key(),
        base_url=settings.openai_base_url,
        azure_endpoint=settings.azure_openai_endpoint,
        azure_api_version=settings.openai_api_version,
        timeout_seconds=settings.provider_timeout_seconds,
        max_connections=settings.provider_concurrency,
    )


def find_owners(settings: Settings, database: Database, store: ImageStore) -> PictureOwners:
    """Who may edit which picture; of pictures from before owners were written down, the ledger knows who made them."""
    makers = partial(find_makers, database)
    return PictureOwners(store, shared=settings.shared_images, find_makers=makers)
