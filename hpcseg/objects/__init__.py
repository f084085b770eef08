"""Objects of a map: connected components, exact over tiles and ranks."""

from hpcseg.objects.export import Choice, Written, export_objects
from hpcseg.objects.reduce import Case, Part, Settings, find_components
from hpcseg.objects.spool import in_raster_order

__all__ = ["Case", "Choice", "Part", "Settings", "Written", "export_objects", "find_components", "in_raster_order"]
