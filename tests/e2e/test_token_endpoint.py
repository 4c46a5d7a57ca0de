"""Discovery of the ecosystem, tokens in OAuth2's other forms, and their offline check."""

from __future__ import annotations

import base64
import re
from urllib.parse import urljoin

import httpx
import pytest

from fixtures.backend import Backend, b64
from plugvault.opcp.open import HEADER, PREFIX
from plugvault.pools.caller import CPO, Caller


def test_a_closed_ecosystem_has_no_open_mode_path_or_header(backend: Backend):
    answer = backend.ask("OEM", "GET", f"{PREFIX}/v1/root/rootCerts")
    assert answer.status_code == 404
    assert HEADER not in answer.headers
    assert "OPEN MODE" not in backend.http.get("/").text + backend.http.get("/docs").text


def test_the_first_page_lists_the_first_steps(backend: Backend):
    page = backend.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.count("<li>") == 3
    (docs,) = re.findall(r'href="([^"]+)"', page.text)
    assert "swagger" in backend.http.get(f"/{docs}").text


# The token endpoint as OAuth2's own clients use it.


def form(backend: Backend, *left_out: str) -> dict[str, str]:
    fields = {**vars(backend.ecosystem.credentials("OEM")), "grant_type": "client_credentials"}
    return {name: value for name, value in fields.items() if name not in left_out}


def works(backend: Backend, answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert backend.ask(None, "GET", "/v1/root/rootCerts", headers=headers).status_code == 200


def test_a_form_gets_a_token_with_or_without_the_audience(backend: Backend):
    works(backend, backend.http.post("/oauth/token", data=form(backend)))
    works(backend, backend.http.post("/oauth/token", data=form(backend, "audience")))


def test_a_form_may_have_its_credentials_in_the_header_as_the_api_page_sends_it(
    backend: Backend,
):
    fields = form(backend, "client_id", "client_secret", "audience")
    credentials = backend.ecosystem.credentials("OEM")
    pair = (credentials.client_id, credentials.client_secret)
    works(backend, backend.http.post("/oauth/token", data=fields, auth=pair))
    wrong = backend.http.post("/oauth/token", data=fields, auth=(pair[0], "x"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "access_denied")


def test_repeated_refusals_delay_the_caller_and_no_valid_client(backend: Backend):
    credentials = backend.ecosystem.register(Caller("Clumsy", frozenset({CPO})))
    right = {**vars(credentials), "grant_type": "client_credentials"}
    assert backend.http.post("/oauth/token", json=right).status_code == 200
    answer = None
    for _ in range(50):  # more than the limit and its refill
        answer = backend.http.post("/oauth/token", json={**right, "client_secret": "wrong"})
        assert answer.status_code == 401
        if "Retry-After" in answer.headers:
            break
    assert answer
    assert answer.headers["Retry-After"] == "1"
    assert "Too many refused requests" in answer.json()["error_description"]
    assert "wrong client_secret" in answer.json()["error_description"]
    for _ in range(5):  # while another client at the same address continues
        assert backend.http.post("/oauth/token", json=right).status_code == 200
        answer = backend.http.post("/oauth/token", json={**right, "client_secret": "wrong"})
        assert answer.status_code == 401
    works(backend, backend.http.post("/oauth/token", data=form(backend)))


@pytest.mark.parametrize("header", ["Basic", "Basic %%%", "Basic " + b64(b"nocolon"), "Digest x"])
def test_a_form_without_usable_credentials_names_the_missing_fields(backend: Backend, header: str):
    fields = form(backend, "client_id", "client_secret")
    answer = backend.http.post("/oauth/token", data=fields, headers={"Authorization": header})
    assert answer.status_code == 400
    assert answer.json()["errorMessages"] == [
        "client_id : must be given",
        "client_secret : must be given",
    ]


def test_the_form_needs_a_grant_type_and_takes_bytes_that_are_no_text(backend: Backend):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"", b"\xff\xfe=%ff", b"&&&=", b"client_id=a"):
        answer = backend.http.post("/oauth/token", content=body, headers=kind)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_client_finds_the_token_endpoint_and_the_key(backend: Backend):
    for name in ("openid-configuration", "oauth-authorization-server"):
        metadata = backend.http.get(f"/.well-known/{name}").json()
        assert metadata["token_endpoint"] == f"{backend.ecosystem.url}/oauth/token"
        assert backend.http.get(metadata["jwks_uri"]).json()["keys"]
        payload = backend.login("OEM").json()["access_token"].split(".")[1]
        assert f'"iss":"{metadata["issuer"]}"' in base64.urlsafe_b64decode(payload + "==").decode()


def test_the_api_page_offers_the_roles_credentials(backend: Backend):
    document = backend.http.get("/openapi.json").json()
    (scheme,) = document["components"]["securitySchemes"].values()
    assert scheme["flows"]["clientCredentials"]["tokenUrl"] == "oauth/token"
    assert document["paths"]["/v1/root/rootCerts"]["get"]["security"]
    assert "security" not in document["paths"]["/oauth/token"]["post"]


def test_authorize_on_the_api_page_permits_calls(backend: Backend):
    """Send the requests of the page as a browser sends them."""
    page = str(backend.http.get("/docs").url)
    (document_url,) = re.findall(r"url: '([^']+)'", backend.http.get(page).text)
    document = backend.http.get(urljoin(page, document_url)).json()
    (name,) = document["components"]["securitySchemes"]
    call = document["paths"]["/v1/root/rootCerts"]["get"]
    assert [name] == [scheme for requirement in call["security"] for scheme in requirement]
    flow = document["components"]["securitySchemes"][name]["flows"]["clientCredentials"]
    credentials = backend.ecosystem.credentials("OEM")
    answer = backend.http.post(
        urljoin(page, flow["tokenUrl"]),
        content="grant_type=client_credentials",
        headers={
            "Accept": "application/json, text/plain, */*",
            "Authorization": "Basic "
            + b64(f"{credentials.client_id}:{credentials.client_secret}".encode()),
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Requested-With": "XMLHttpRequest",
            "Referer": page,
        },
    )
    assert answer.json()["token_type"] == "Bearer"
    works(backend, answer)
