"""Pulses as messages to other observatories: VOEvent packets and JSON notices.

VOEvent 2.0 is an IVOA Recommendation (Seaman et al. 2011). The groups and names of its parameters are those of the FRB
VOEvent standard (Petroff et al. 2017, arXiv:1710.08155). JSON notices use the field names of the unified GCN schema
(https://gcn.nasa.gov/docs/schema). edgefilter sends neither of them.
"""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgefilter.core.clock import to_time
from edgefilter.core.errors import StoreError
from edgefilter.core.stream import Stream
from edgefilter.products.pulses import PulseRow

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

_NAMESPACE = "http://www.ivoa.net/xml/VOEvent/v2.0"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd"
_ROLES = ("observation", "prediction", "utility", "test")


@dataclass(frozen=True)
class Detection:
    """A pulse as a message describes it.

    Parameters
    ----------
    id
        Identifier of the pulse.
    row
        Row of the table ``pulses``.
    stream
        Header of the stream.
    config, code
        Digest of the settings, and version of edgefilter.
    """

    id: str
    row: PulseRow
    stream: Stream
    config: str
    code: str

    @property
    def band_mhz(self) -> tuple[float, float]:
        """Lower and upper edge of the stream's band, MHz."""
        frequencies, half = self.stream.frequencies_hz / 1e6, abs(self.stream.channel_step_hz) / 2e6
        return float(frequencies.min() - half), float(frequencies.max() + half)


def voevent(
    pulse: Detection,
    author: str = "ivo://edgefilter",
    role: str = "observation",
    position: "SkyCoord | None" = None,
    position_error_deg: float = 0.0,
    date: datetime | None = None,
) -> str:
    """Return a VOEvent 2.0 packet.

    Parameters
    ----------
    pulse
        The pulse.
    author
        IVOA identifier of the author; that of the packet is ``AUTHOR/STREAM#PULSE``.
    role
        ``observation``, ``test``, ``utility`` or ``prediction``.
    position, position_error_deg
        Pointing of the telescope, which streams do not contain, and radius of its beam, degrees; left out if None.
    date
        Date of the packet, UTC; now if None.

    Returns
    -------
    str
        XML with its declaration.

    Raises
    ------
    StoreError
        If there is no such role, or the author is not an IVOA identifier.
    """
    if role not in _ROLES:
        raise StoreError(f"role is {role!r}, must be one of {', '.join(_ROLES)}")
    if not re.fullmatch(r"ivo://[A-Za-z0-9][A-Za-z0-9._~/-]*", author):
        raise StoreError(f"author is {author!r}, must be an IVOA identifier such as ivo://observatory.example/frb")
    ET.register_namespace("voe", _NAMESPACE)
    ET.register_namespace("xsi", _INSTANCE)
    root = ET.Element(
        f"{{{_NAMESPACE}}}VOEvent",
        {
            "version": "2.0",
            "role": role,
            "ivorn": f"{author}/{pulse.stream.id}#{pulse.id}",
            f"{{{_INSTANCE}}}schemaLocation": f"{_NAMESPACE} {_SCHEMA}",
        },
    )
    who = ET.SubElement(root, "Who")
    _add(who, "AuthorIVORN", author)
    _add(who, "Date", f"{(date or datetime.now(UTC)):%Y-%m-%dT%H:%M:%S}")
    _add(ET.SubElement(who, "Author"), "title", "edgefilter")
    _what(ET.SubElement(root, "What"), pulse)
    _where_when(ET.SubElement(root, "WhereWhen"), pulse, position, position_error_deg)
    _add(ET.SubElement(root, "How"), "Description", f"edgefilter {pulse.code}, settings {pulse.config}")
    why = ET.SubElement(root, "Why")
    _add(why, "Name", "fast transient candidate")
    _add(why, "Description", f"dispersed pulse of S/N {pulse.row.snr:.2f} found by a single-pulse search; not verified")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def gcn_notice(pulse: Detection, position: "SkyCoord | None" = None, date: datetime | None = None) -> str:
    """Return a JSON notice with the field names of the unified GCN schema.

    Parameters
    ----------
    pulse
        The pulse.
    position
        Pointing of the telescope, which streams do not contain; left out if None.
    date
        Date of the notice, UTC; now if None.

    Returns
    -------
    str
        A JSON object. ``pulse_width``, in s, is not part of the schema.
    """
    row, stream = pulse.row, pulse.stream
    low, high = pulse.band_mhz
    fields: dict[str, object] = {
        "alert_datetime": f"{(date or datetime.now(UTC)):%Y-%m-%dT%H:%M:%SZ}",
        "alert_type": "initial",
        "alert_tense": "current",
        "mission": stream.telescope or "unknown",
        "instrument": "edgefilter",
        "messenger": "EM",
        "spectral_band": [low, high],
        "spectral_band_units": "MHz",
        "id": pulse.id,
        "trigger_time": _iso(to_time(row.tai_ns)),
        "trigger_time_error": row.width / 2,
        "trigger_time_inf_freq": _iso(to_time(row.tai_ns + round((row.seconds_inf - row.seconds) * 1e9))),
        "dm": row.dm,
        "dm_error": row.dm_error,
        "snr": row.snr,
        "pulse_width": row.width,
        "npol": min(len(stream.products), 2),
        "additional_info": f"edgefilter {pulse.code}, settings {pulse.config}; trigger_time is at {high:.6g} MHz",
    }
    if position is not None:
        fields |= {"ra": float(position.icrs.ra.deg), "dec": float(position.icrs.dec.deg)}
    return json.dumps(fields, indent=2)


def _what(what: ET.Element, pulse: Detection) -> None:
    row, stream = pulse.row, pulse.stream
    low, high = pulse.band_mhz
    telescope = [
        ("backend", "edgefilter", "", "meta.id;instr", "string"),
        ("telescope", stream.telescope or "unknown", "", "instr.tel", "string"),
        ("centre_frequency", (low + high) / 2, "MHz", "em.freq;instr", "float"),
        ("bandwidth", high - low, "MHz", "instr.bandwidth", "float"),
        ("npol", min(len(stream.products), 2), "", "", "int"),
        ("bits_per_sample", stream.bits, "", "", "int"),
    ]
    event = [
        ("dm", row.dm, "pc/cm^3", "phys.dispMeasure", "float"),
        ("dm_error", row.dm_error, "pc/cm^3", "stat.error;phys.dispMeasure", "float"),
        ("width", row.width * 1e3, "ms", "time.duration;src.var.pulse", "float"),
        ("snr", row.snr, "", "stat.snr", "float"),
        ("freq_low", row.freq_low, "MHz", "em.freq;stat.min", "float"),
        ("freq_high", row.freq_high, "MHz", "em.freq;stat.max", "float"),
        ("members", row.members, "", "meta.number", "int"),
        ("fraction_flagged", row.flagged, "", "", "float"),
    ]
    for name, params in (("observatory parameters", telescope), ("event parameters", event)):
        group = ET.SubElement(what, "Group", {"name": name})
        for key, value, unit, ucd, kind in params:
            attributes = {"name": key, "value": str(value), "unit": unit, "ucd": ucd, "dataType": kind}
            ET.SubElement(group, "Param", {name: text for name, text in attributes.items() if text or name == "value"})


def _where_when(where: ET.Element, pulse: Detection, position: "SkyCoord | None", error_deg: float) -> None:
    data = ET.SubElement(where, "ObsDataLocation")
    ET.SubElement(data, "ObservatoryLocation", {"id": pulse.stream.telescope or "unknown"})
    location = ET.SubElement(data, "ObservationLocation")
    ET.SubElement(location, "AstroCoordSystem", {"id": "UTC-ICRS-TOPO"})
    coords = ET.SubElement(location, "AstroCoords", {"coord_system_id": "UTC-ICRS-TOPO"})
    time = ET.SubElement(coords, "Time", {"unit": "s"})
    _add(ET.SubElement(time, "TimeInstant"), "ISOTime", _iso(to_time(pulse.row.tai_ns)).removesuffix("Z"))
    _add(time, "Error", f"{pulse.row.width / 2:.9g}")
    if position is not None:
        position2d = ET.SubElement(coords, "Position2D", {"unit": "deg"})
        _add(position2d, "Name1", "RA")
        _add(position2d, "Name2", "Dec")
        value = ET.SubElement(position2d, "Value2")
        _add(value, "C1", f"{position.icrs.ra.deg:.9g}")
        _add(value, "C2", f"{position.icrs.dec.deg:.9g}")
        _add(position2d, "Error2Radius", f"{error_deg:.9g}")


def _iso(time: "Time") -> str:
    """Return UTC with microseconds, ``2026-11-23T12:00:00.000000Z``."""
    time = time.copy()
    time.precision = 6
    return f"{time.isot}Z"


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = text
