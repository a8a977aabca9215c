"""Signed reports, their tables, and whether a file is one."""

from app.client.connection import Connection, read
from app.reports.schemas import ReportKey, ReportKeyList, Verification


class Reports(Connection):
    """The calls about reports."""

    def report(self, attribution_id: str) -> bytes:
        """Return the signed report of an attribution: keep these bytes as they are."""
        return self.call("GET", f"/v1/attributions/{attribution_id}/report").content

    def report_table(self, attribution_id: str) -> bytes:
        """Return an attribution's influences as CSV."""
        return self.call("GET", f"/v1/attributions/{attribution_id}/report.csv").content

    def verify(self, data: bytes) -> Verification:
        """Say whether a file is a document that this service signed."""
        kind = {"Content-Type": "application/json"}
        return read(Verification, self.call("POST", "/v1/reports/verify", content=data, headers=kind))

    def report_keys(self) -> list[ReportKey]:
        """Return every public key that documents were signed with, the newest first."""
        return read(ReportKeyList, self.call("GET", "/v1/report-keys")).items
