"""What an attacker who can write to the registry does, over the plain distribution API."""

import base64
import hashlib
import json
import urllib.request

INDEX = "application/vnd.oci.image.index.v1+json"
ACCEPT = f"{INDEX}, application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    def __init__(self, port: int, token_file):
        self.host = f"127.0.0.1:{port}"
        self.repository = f"{self.host}/team/donkeycar"
        self.token_file = token_file

    def _request(self, method: str, path: str, data=None, headers=None):
        token = base64.b64encode(b"attacker:" + self.token_file.read_bytes().strip()).decode()
        request = urllib.request.Request(
            f"http://{self.host}/v2/team/donkeycar/{path}", data=data, method=method,
            headers={"Authorization": f"Basic {token}", "Accept": ACCEPT, **(headers or {})})
        return urllib.request.urlopen(request, timeout=30)

    def manifest(self, reference: str) -> bytes:
        with self._request("GET", f"manifests/{reference}") as answer:
            return answer.read()

    def blob(self, digest: str) -> bytes:
        with self._request("GET", f"blobs/{digest}") as answer:
            return answer.read()

    def put_index(self, index: dict) -> str:
        data = json.dumps(index).encode()
        with self._request("PUT", f"manifests/{digest_of(data)}", data, {"Content-Type": INDEX}):
            return digest_of(data)

    def statement(self, index: str) -> dict:
        """The release statement of an index, as anybody can read it."""
        tag = "_release-" + index.removeprefix("sha256:")
        manifest = json.loads(self.manifest(tag))
        bundle = json.loads(self.blob(manifest["layers"][0]["digest"]))
        return json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
