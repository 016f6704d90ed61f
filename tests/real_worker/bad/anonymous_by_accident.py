"""host: POST cases is anonymous and not on the list"""

import azure.functions as func

app = func.FunctionApp()


@app.route("cases", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
