"""host: the authorization level is not stated"""

import azure.functions as func

app = func.FunctionApp()


@app.route("cases", methods=["POST"])
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
