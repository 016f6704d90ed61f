"""The two queues; `working` does the job, puts it back for later, or lets it become poison."""

import azure.functions as func

from shared import bootstrap, working

bp = func.Blueprint()


@bp.function_name("sync_job")
@bp.queue_trigger(arg_name="message", queue_name="sync", connection="STORAGE")
def sync_job(message: func.QueueMessage) -> None:
    """Look into one mailbox."""
    working.run(bootstrap.app(), message.get_body().decode())


@bp.function_name("deliver_job")
@bp.queue_trigger(arg_name="message", queue_name="deliver", connection="STORAGE")
def deliver_job(message: func.QueueMessage) -> None:
    """Bring one promise, or one moved conversation, a step further."""
    working.run(bootstrap.app(), message.get_body().decode())
