"""A typed client of the interface. What the service refuses is raised as the same type that it raised.

Client.attribute posts a track and follows it to its end; every other method is one call, or an iterator over pages.
"""

from app.client.attributions import Attributions, Track, Watch
from app.client.catalogue import Catalogue
from app.client.connection import Connection, Patience
from app.client.counterfactuals import Counterfactuals
from app.client.refusals import NotSucceeded, UnknownProblem, Unreachable
from app.client.reports import Reports
from app.client.statements import Statements

__all__ = ["Client", "NotSucceeded", "Patience", "Track", "UnknownProblem", "Unreachable", "Watch"]


class Client(Attributions, Catalogue, Counterfactuals, Reports, Statements, Connection):
    """A connection to a service at a URL; use it in a `with`.

    Every call raises Unreachable, or the ServiceError that the service's problem document names.
    """
