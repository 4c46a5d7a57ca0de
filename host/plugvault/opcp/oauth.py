"""POST /oauth/token: OAuth2 client credentials, JSON in and out."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from plugvault.opcp.services import Services, services
from plugvault.opcp.tokens import LIFETIME, SCOPE, TokenError

router = APIRouter(tags=["Access token"])


class TokenRequest(BaseModel):
    client_id: str
    client_secret: str
    audience: str
    grant_type: str


@router.post("/oauth/token", summary="Get an access token", response_model=None)
def token(
    asked: TokenRequest, found: Annotated[Services, Depends(services)]
) -> dict[str, Any] | JSONResponse:
    """Client credentials for a bearer token that is good for 24 hours."""
    if asked.grant_type != "client_credentials":
        return _refuse(400, "unsupported_grant_type", "Only client_credentials is served.")
    try:
        access = found.tokens.issue(asked.client_id, asked.client_secret, asked.audience)
    except TokenError as error:
        return _refuse(401, "access_denied", str(error))
    return {
        "access_token": access,
        "scope": SCOPE,
        "expires_in": LIFETIME,
        "token_type": "Bearer",
    }


def _refuse(status: int, error: str, description: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description}, status)
