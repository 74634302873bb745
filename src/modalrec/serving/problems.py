"""Errors over HTTP as problem details (RFC 9457): what is wrong, where, and the next step."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from modalrec.errors import ModalrecError

MEDIA_TYPE = "application/problem+json"
SEE = "see /openapi.json for what this server takes"
SHOWN = 80
"""Letters of a refused value that are sent back."""
TITLES = {
    404: "Not found",
    405: "Method not allowed",
    413: "Request too large",
    422: "Request not understood",
    500: "Internal error",
    503: "Not able to answer now",
}


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(description="The field, such as `history.2`.", examples=["k"])
    value: str = Field(description="What was given there, shortened.", examples=["0"])
    problem: str = Field(description="What is wrong with it.", examples=["Input should be greater than or equal to 1"])


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    type: str = Field("about:blank", description="The status says it all.")
    title: str = Field(description="The status in words.", examples=["Request not understood"])
    status: int = Field(description="The status of the answer.", examples=[422])
    detail: str = Field(description="This occurrence, with the item or field and its value.")
    next_step: str = Field(description="What to do about it.")
    errors: list[Fault] = Field([], description="All faults of the request.")


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": TITLES[status], "model": Problem} for status in (413, 422, 503)
}
"""For the routes that answer questions."""


class Refused(HTTPException):
    """A request that is not answered."""

    def __init__(self, status: int, detail: str, next_step: str, errors: list[Fault] | None = None) -> None:
        super().__init__(status, detail, {"Retry-After": "1"} if status == 503 else None)
        self.next_step = next_step
        self.errors = errors or []


def add_problems(app: FastAPI) -> None:
    """Makes every error of an application a problem document."""
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(ModalrecError, _unable)
    app.add_exception_handler(Exception, _broken)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        for verbs in document["paths"].values():
            for operation in verbs.values():
                for status, response in operation["responses"].items():
                    content = response.get("content", {})
                    if not status.startswith("2") and "application/json" in content:
                        content[MEDIA_TYPE] = content.pop("application/json")
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def fault(where: str, value: object, problem: str) -> Fault:
    """A fault with its value shortened."""
    text = str(value)
    return Fault(where=where, value=text if len(text) <= SHOWN else f"{text[:SHOWN]}...", problem=problem)


def _malformed(request: Request, error: Any) -> JSONResponse:
    found = [
        fault(".".join(map(str, one["loc"][1:])) or "body", one.get("input", ""), one["msg"]) for one in error.errors()
    ]
    first = found[0]
    return _answer(422, f"{first.where}: {first.value!r}: {first.problem}", SEE, found)


def _refused(request: Request, error: Any) -> JSONResponse:
    if isinstance(error, Refused):
        return _answer(error.status_code, error.detail, error.next_step, error.errors, error.headers)
    return _answer(error.status_code, f"{request.method} {request.url.path}: {error.detail}", SEE, [], error.headers)


def _unable(request: Request, error: Any) -> JSONResponse:
    """What a model refuses, such as a list longer than its beam; the message ends in the next step."""
    detail, _, step = str(error).rpartition("; ")
    return _answer(422, detail or step, step, [])


def _broken(request: Request, error: Any) -> JSONResponse:
    detail = f"{type(error).__name__} while answering {request.method} {request.url.path}"
    return _answer(500, detail, "look into the server's log", [])


def _answer(status: int, detail: str, step: str, errors: list[Fault], headers: Any = None) -> JSONResponse:
    title = TITLES.get(status, "Refused")
    problem = Problem(title=title, status=status, detail=detail, next_step=step, errors=errors)
    return JSONResponse(problem.model_dump(), status, headers, MEDIA_TYPE)
