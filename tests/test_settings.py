"""What the environment may say, and what a wrong one is told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from veza.domain.addresses import Address
from veza.domain.catalog import ProductType
from veza.domain.limits import ONE_ADDRESS, Limit, Limits
from veza.domain.vat import VatRates
from veza.settings import REQUIRED_IN_PRODUCTION, Settings, SettingsError, load

PRODUCTION = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://db/veza",
    "APP_DOMAIN": "https://veza.example",
    "JWT_SECRET": "jwt-of-the-tests-" + "j" * 20,
    "HYPERSWITCH_BASE_URL": "https://api.hyperswitch.io",
    "HYPERSWITCH_API_KEY": "snd_1",
    "HYPERSWITCH_PUBLISHABLE_KEY": "pk_1",
    "HYPERSWITCH_WEBHOOK_SECRET": "hook-1",
    "STRIPE_SECRET_KEY": "sk_1",
    "STRIPE_WEBHOOK_SECRET": "whsec_1,whsec_2",
    "TRUSTED_PROXIES": "none",
    "PLATFORM_LEGAL_NAME": "Veza of the tests",
    "PLATFORM_LEGAL_ADDRESS": "1 Example Street|Example City|FR",
}


LIVE = {
    "RTMP_URL": "rtmp://live.veza.example/live",
    "HLS_BASE_URL": "https://live.veza.example/hls",
    "INGEST_STAT_URL": "http://10.0.0.1:8089/stat",
    "INGEST_CONTROL_URL": "http://10.0.0.1:8089/control",
    "INGEST_HOOK_TOKEN": "hooks-of-the-tests-1",
    "STREAM_KEY_SECRET": "stream-keys-of-the-tests-" + "s" * 20,
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine's and no .env file reaches these tests."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


HERE = Path(__file__).resolve().parent.parent
NOBODY_SETS: set[str] = {"HONCHO_PROCESS_NAME"}  # but honcho


def test_every_setting_is_in_the_example_and_in_the_readme_and_nothing_else_is() -> None:
    settings = {name.upper() for name in Settings.model_fields} - NOBODY_SETS
    example = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (HERE / ".env.example").read_text(), re.MULTILINE)
    assert len(example) == len(set(example))
    assert set(example) == settings
    section = (HERE / "README.md").read_text().partition("\n## Configuration\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    assert {name for cell in first_cells for name in re.findall(r"`([A-Z0-9_]+)`", cell)} == settings


def test_what_is_kept_leads_to_why_it_is_kept_so() -> None:
    section = (HERE / "README.md").read_text().partition("\n## Keeping things\n")[2].partition("\n## ")[0]
    linked = re.findall(r"\]\((docs/decisions/[a-z-]+\.md)\)", section)
    assert {"docs/decisions/objects.md", "docs/decisions/exports.md", "docs/decisions/erasure.md"} < set(linked)
    assert [path for path in linked if not (HERE / path).is_file()] == []


def test_development_needs_nothing_set(tmp_path: Path) -> None:
    settings = load()
    assert settings.port == 8080
    assert settings.fee_bp == 1000
    assert settings.base_url == "http://127.0.0.1:8080"


def test_limits_are_wide_where_everyone_is_at_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().rate_limits == ONE_ADDRESS
    monkeypatch.setenv("RATE_LIMITS", "login=20/60")
    assert load().rate_limits == replace(Limits(), login=Limit("login", 20, 60))


def test_a_development_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first, second = load().jwt_secret.get_secret_value(), load().jwt_secret.get_secret_value()
    kept = tmp_path / "var" / "secrets" / "jwt_secret"
    assert first == second == kept.read_text()
    assert len(first) >= 32
    assert kept.stat().st_mode & 0o077 == 0


def test_a_full_production_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION)
    settings = load()
    assert settings.production
    assert settings.stripe_webhook_secrets == ("whsec_1", "whsec_2")


def test_production_names_every_missing_setting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(SettingsError) as refused:
        load()
    for name in (*REQUIRED_IN_PRODUCTION, "jwt_secret"):
        assert name.upper() in str(refused.value)


@pytest.mark.parametrize("name", sorted(PRODUCTION.keys() - {"ENVIRONMENT"}))
def test_an_empty_setting_is_a_missing_one_in_production(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    set_all(monkeypatch, PRODUCTION | {name: ""})
    with pytest.raises(SettingsError, match=name):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "80 80"),
        ("JWT_SECRET", "too-short"),
        ("PLATFORM_FEE_RATE", "1.5"),
        ("PLATFORM_FEE_RATE", "0.12345"),
        ("PLATFORM_CURRENCY", "euro"),
        ("TRANSFER_CLAIM_SECONDS", "25"),
        ("ADMIN_EMAIL", "admin@veza.example"),
        ("PLATFORM_LEGAL_NAME", "  "),
        ("PLATFORM_LEGAL_ADDRESS", "1 Example Street, Example City"),
        ("PLATFORM_VAT_ID", "11123456782"),
        ("VAT_RATES", "twenty"),
        ("VAT_RATES", "podcast=20"),
        ("RTMP_URL", "http://live.veza.example/live"),
        ("RTMP_URL", "rtmp://live.veza.example"),
        ("INGEST_SERVER", "srs"),
        ("INGEST_HOOK_TOKEN", "short"),
        ("INGEST_HOOK_TOKEN", "hooks/of/the/tests/1"),
        ("STREAM_KEY_SECRET", "too-short"),
        ("LIVE_POLL_SECONDS", "0"),
        ("LIVE_GRACE_SECONDS", "1801"),
        ("S3_ENDPOINT_URL", "s3.example"),
        ("S3_ACCESS_KEY_ID", "one-without-the-other"),
        ("OBJECT_GRACE_HOURS", "0"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("RATE_LIMITS", "login"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "https://app.veza.example/"),
        ("CORS_ORIGINS", "https://app.veza.example,app.veza.example"),
        ("JWT_SECRET", "at-least-32-bytes-of-randomness-please"),
        ("JWT_SECRET", "change-me-change-me-change-me-change-me"),
        ("JWT_SECRET", "abababababababababababababababababab"),
        ("STREAM_KEY_SECRET", "at-least-32-bytes-of-randomness-please"),
        ("STREAM_KEY_SECRET", "abababababababababababababababababab"),
        ("INGEST_HOOK_TOKEN", "aaaaaaaaaaaaaaaa"),
        ("INGEST_HOOK_TOKEN", "your-secret-token-here"),
        ("RATE_LIMITS", "nobody=1/1"),
        ("EXPORT_URL_TTL_HOURS", "0"),
        ("EXPORT_URL_TTL_HOURS", "169"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as refused:
        load()
    assert f"{value!r}" not in str(refused.value)


@pytest.mark.parametrize("name", ["S3_REGION", "S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID"])
def test_where_anything_of_a_bucket_is_set_its_name_is_asked_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "https://s3.example")
    with pytest.raises(SettingsError, match="S3_BUCKET"):
        load()


def test_the_issuer_of_invoices_and_its_rates_are_read_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"PLATFORM_VAT_ID": "FR 11 123 456 782", "VAT_RATES": "20, course=5.5"}
    set_all(monkeypatch, PRODUCTION | said | {"PLATFORM_LEGAL_ADDRESS": "1 Example Street\n75001 Example City\nfr"})
    settings = load()
    assert settings.platform_legal_name == "Veza of the tests"
    assert settings.platform_legal_address == Address(("1 Example Street",), "75001", "Example City", "FR")
    assert settings.platform_vat_id == "FR11123456782"
    assert settings.vat_rates == VatRates(2000, {ProductType.COURSE: 550})


def test_an_issuer_that_charges_vat_has_a_vat_identifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAT_RATES", "default=0,course=5.5")
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value) == "PLATFORM_VAT_ID: needed where VAT_RATES charges VAT"
    monkeypatch.setenv("VAT_RATES", "default=0")
    assert load().platform_vat_id is None


def test_live_streaming_is_set_up_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION | LIVE)
    settings = load()
    assert settings.ingest_configured
    assert settings.ingest_application == "live"


@pytest.mark.parametrize("name", sorted(LIVE))
def test_in_production_no_part_of_live_streaming_may_be_missing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    set_all(monkeypatch, PRODUCTION | LIVE | {name: ""})
    with pytest.raises(SettingsError, match=name):
        load()


def test_mediamtx_needs_no_application_and_no_control_url(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"INGEST_SERVER": "mediamtx", "RTMP_URL": "rtmp://live.veza.example", "INGEST_CONTROL_URL": ""}
    set_all(monkeypatch, PRODUCTION | LIVE | said)
    assert load().encoder_url == "rtmp://live.veza.example"


def test_without_live_streaming_production_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION)
    settings = load()
    assert (settings.encoder_url, settings.ingest_configured) == ("", False)


def test_in_development_its_secrets_are_made_once_and_are_all_different() -> None:
    first, second = load(), load()
    made = [settings.stream_key_secret.get_secret_value() for settings in (first, second)]
    assert made[0] == made[1]
    assert len({made[0], first.jwt_secret.get_secret_value(), first.ingest_hook_token.get_secret_value()}) == 3


def test_settings_show_no_secret_when_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    said = PRODUCTION | LIVE
    set_all(monkeypatch, said)
    shown = repr(load())
    for name in said:
        if name.endswith(("_SECRET", "_KEY", "_TOKEN")) and name != "HYPERSWITCH_PUBLISHABLE_KEY":
            assert said[name] not in shown


@pytest.mark.parametrize(
    ("said", "meant"),
    [("none", []), ("10.0.0.0/8, ::1", ["10.0.0.0/8", "::1/128"]), ("", None), ("192.0.2.1", ["192.0.2.1/32"])],
)
def test_proxies_are_named_by_network(monkeypatch: pytest.MonkeyPatch, said: str, meant: list[str] | None) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", said)
    trusted = load().trusted_proxies
    assert (None if trusted is None else [str(network) for network in trusted]) == meant


@pytest.mark.parametrize("said", ["everyone", "10.0.0.0/33", "10.0.0.1/8", "none, 10.0.0.0/8"])
def test_what_is_no_network_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", said)
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value) == "TRUSTED_PROXIES: networks such as 10.0.0.0/8, comma-separated, or none"


@pytest.mark.parametrize(
    ("name", "weak"),
    [
        ("JWT_SECRET", "a" * 64),
        ("APP_DOMAIN", "veza.example"),
        ("APP_DOMAIN", "ftp://veza.example"),
        ("STRIPE_SECRET_KEY", "pk_live_1"),
        ("STRIPE_WEBHOOK_SECRET", ", ,"),
        ("HYPERSWITCH_WEBHOOK_SECRET", ","),
    ],
)
def test_a_weak_setting_is_refused_in_production(monkeypatch: pytest.MonkeyPatch, name: str, weak: str) -> None:
    set_all(monkeypatch, PRODUCTION | {name: weak})
    with pytest.raises(SettingsError, match=f"^{name}:[^;]*$"):
        load()


def test_a_value_that_cannot_be_read_hides_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"ENVIRONMENT": "production", "PORT": "abc", "STRIPE_SECRET_KEY": "x"})
    with pytest.raises(SettingsError) as refused:
        load()
    named = [problem.partition(":")[0] for problem in str(refused.value).split("; ")]
    assert sorted(named) == sorted({*(name.upper() for name in REQUIRED_IN_PRODUCTION), "JWT_SECRET", "PORT"})


def test_a_data_directory_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VEZA_DATA_DIR", str(tmp_path / "file" / "var"))
    with pytest.raises(SettingsError, match=r"^VEZA_DATA_DIR: "):
        load()


def test_two_secrets_alike_are_one_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION | LIVE | {"STREAM_KEY_SECRET": PRODUCTION["JWT_SECRET"]})
    with pytest.raises(SettingsError, match="STREAM_KEY_SECRET: not the same as JWT_SECRET"):
        load()


def test_no_secret_of_the_example_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(__file__).parents[1].joinpath(".env.example").read_text()
    examples = re.findall(r"^#?(\w+(?:SECRET|TOKEN))=(.+)$", text, re.MULTILINE)
    assert examples
    for name, value in examples:
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match=name):
            load()
        monkeypatch.delenv(name)


def test_pages_of_other_sites_are_let_in_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().cors_origins == ()
    monkeypatch.setenv("CORS_ORIGINS", "https://app.veza.example, http://localhost:5173")
    assert load().cors_origins == ("https://app.veza.example", "http://localhost:5173")
    monkeypatch.setenv("CORS_ORIGINS", "none")
    assert load().cors_origins == ()
