"""Beam's S3 filesystem, put right where a run would suffer: slow clients, empty objects, hopeless errors retried."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from apache_beam.io.aws.clients.s3 import boto3_client
from apache_beam.io.aws.clients.s3.messages import S3ClientError, UploadPartRequest
from apache_beam.options.pipeline_options import PipelineOptions

__all__ = ["S3Client", "S3ClientError", "install", "why_unreachable"]

_BeamClient: Any = boto3_client.Client
_code_of = boto3_client.get_http_error_code
_DENIED = 403


class S3Client(_BeamClient):
    """Beam's client on a connection pool that all clients with the same options share; it can write empty objects.

    Beam makes a client for every single operation, and each costs 60 ms of CPU to set up.
    """

    def __init__(self, options: Any) -> None:
        if isinstance(options, PipelineOptions):
            self.__dict__.update(_connected(options))
        else:  # a dict, where a worker was given no more
            super().__init__(options)

    def get_range(self, request: Any, start: int, end: int) -> bytes:
        """Bytes of an object.

        Raises:
            OSError: the store did not deliver them; readers of files expect no other kind.
        """
        try:
            data: bytes = super().get_range(request, start, end)
        except S3ClientError as error:
            raise OSError(f"cannot read s3://{request.bucket}/{request.object}: {error.message}") from error
        return data

    def complete_multipart_upload(self, request: Any) -> None:
        """Finish an upload, of one empty part where nothing was written: S3 refuses an upload without parts."""
        if not request.parts:
            empty = self.upload_part(UploadPartRequest(request.bucket, request.object, request.upload_id, 1, b""))
            request.parts = [{"ETag": empty.etag, "PartNumber": empty.part_number}]
        super().complete_multipart_upload(request)


@lru_cache(maxsize=8)
def _connected(options: PipelineOptions) -> dict[str, Any]:
    return dict(vars(_BeamClient(options)))


def _code_or_denied(error: Exception) -> int | None:
    """The HTTP status of an error.

    Beam tries for eight minutes what has none, such as a broken connection; what no second try can heal must have one.
    """
    from botocore.exceptions import NoCredentialsError, ParamValidationError, PartialCredentialsError

    lost = isinstance(error, (NoCredentialsError, ParamValidationError, PartialCredentialsError))
    code: int | None = _DENIED if lost else _code_of(error)
    return code


def install() -> None:
    """Make Beam's S3 filesystem use this client, in this process."""
    boto3_client.Client = S3Client
    boto3_client.get_http_error_code = _code_or_denied


def why_unreachable(bucket: str, options: PipelineOptions) -> str | None:
    """Ask a bucket for a first object, once: what is wrong and how to mend it, or None.

    Access that is denied to the list is left to the operation that needs it: single objects may still be readable.
    """
    if boto3_client.boto3 is None:
        return "this needs another package: pip install 'hardquery[s3]'"
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, ParamValidationError

    try:
        S3Client(options).client.list_objects_v2(Bucket=bucket, MaxKeys=1)
        return None
    except ClientError as error:
        said, code = str(error), error.response.get("Error", {}).get("Code")
        if code == "AccessDenied":
            return None
        fix = "create it, or correct its name" if code == "NoSuchBucket" else "check the credentials and the region"
    except ParamValidationError:
        said, fix = f"{bucket!r} is no name of a bucket", "correct it"
    except (ConnectionError, HTTPClientError) as error:
        said, fix = str(error), "check the network, and AWS_ENDPOINT_URL where it is set"
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        said, fix = str(error), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    return f"{said}; {fix}"
