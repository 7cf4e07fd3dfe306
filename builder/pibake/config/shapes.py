"""Mappings that several sections of a cluster.yaml share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pibake.config import leaves  # noqa: TC001 - pydantic reads the annotations


class Strict(BaseModel):
    """A mapping with known keys only, which does not change once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Wifi(Strict):
    """The wireless network of nodes with `link: wifi`."""

    ssid: leaves.Ssid = Field(description="Its name.", examples=["lab"])
    psk: leaves.Psk = Field(
        description="Its key as 64 hex digits, from `wpa_passphrase SSID`, never the passphrase; it is on the cards of nodes with `link: wifi`.",
        examples=["44116ea8...2a0a15ec"],
    )
    country: leaves.Country = Field(
        description="The country whose rules the radio keeps to, as two letters.", examples=["DE"]
    )
