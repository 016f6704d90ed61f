"""host: a retry policy has no effect on httpTrigger"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
@app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:05")
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
